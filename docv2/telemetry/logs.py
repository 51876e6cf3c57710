"""Logs: one line an event, for people or for machines, written off the event loop.

Modules log through `logging.getLogger(__name__)`; what belongs to an event beside its sentence goes into `extra` and
comes out as fields. Never in a log: a secret, a prompt, a document's text, an answer.
"""

from __future__ import annotations

import copy
import json
import logging
import logging.handlers
import queue
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the current asyncio task answers; set by the web layer."""

task_id: ContextVar[str | None] = ContextVar("task_id", default=None)
"""The document task that the current asyncio task works on; set by whoever starts it."""

QUEUE_LIMIT = 10_000
"""Lines that wait for a slow terminal or disk before further ones are dropped; memory stays bounded."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "context"}

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""Whatever a terminal or a line-based reader could take for the end of the line or a command."""


_PLAIN = re.compile(r'[^\s"=]+')
"""Values that need no quotes."""


@contextmanager
def running(
    *,
    level: str = "INFO",
    levels: Mapping[str, str] | None = None,
    style: str = "human",
    file: Path | None = None,
    stream: TextIO | None = None,
) -> Iterator[None]:
    """Log to `stream` (stderr) and `file` while the context is open; what was logged is written when it closes.

    `level` holds for docv2; other libraries are heard from WARNING on. `levels` overrides it by logger name. The file
    is opened anew when it was moved or removed, so that logrotate needs no signal.
    """
    formatter = JSONFormatter() if style == "json" else HumanFormatter()
    outputs: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    if file is not None:
        outputs.append(logging.handlers.WatchedFileHandler(file, encoding="utf-8"))
    for output in outputs:
        output.setFormatter(formatter)

    root = logging.getLogger()
    handler = _QueueHandler(queue.SimpleQueue())
    listener = logging.handlers.QueueListener(handler.queue, *outputs)
    wanted = {
        "": "WARNING",
        "docv2": level,
        "python_multipart": "CRITICAL",  # warns of every malformed upload; the answer says so already
        **(levels or {}),
    }
    before = {name: logging.getLogger(name).level for name in wanted}
    for name, value in wanted.items():
        logging.getLogger(name).setLevel(value)
    root.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        listener.stop()
        for output in outputs:
            output.close()
        for name, number in before.items():
            logging.getLogger(name).setLevel(number)


class _QueueHandler(logging.handlers.QueueHandler):
    """Hands records to the writing thread; the event loop neither formats nor writes."""

    queue: queue.SimpleQueue[logging.LogRecord]
    _dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record = copy.copy(record)
        record.msg, record.args = record.getMessage(), None
        record.context = {"request_id": request_id.get(), "task_id": task_id.get()}
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.queue.qsize() >= QUEUE_LIMIT:
            self._dropped += 1
            return
        if self._dropped:
            lost = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
            lost["msg"] = f"{self._dropped} log lines were dropped: the log is read or written too slowly"
            self._dropped = 0
            self.queue.put_nowait(logging.makeLogRecord(lost))
        self.queue.put_nowait(record)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, then the ids of the context where the event does not name its own."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    context: Mapping[str, str | None] = getattr(record, "context", {})
    return fields | {name: value for name, value in context.items() if value is not None and name not in fields}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class HumanFormatter(logging.Formatter):
    """`time LEVEL logger: sentence field=value …`, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        parts = [f"{_time(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"]
        parts += [f"{name}={_shown(value)}" for name, value in _fields(record).items()]
        if record.exc_text:
            parts.append(record.exc_text)
        return " ".join(parts).translate(_ESCAPES)


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"time": _time(record), "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= _fields(record)
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, default=str)


def _shown(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
