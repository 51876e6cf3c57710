"""Audit: who called what and what came of it, in a file of its own, a JSON object a line in Open WebUI's shape.

Never in it: a prompt, a document's text, an answer, a secret. The higher levels add names and sizes of what was sent.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

NONE, METADATA, REQUEST, REQUEST_RESPONSE = "NONE", "METADATA", "REQUEST", "REQUEST_RESPONSE"

FILES = 10
"""Kept beside the one that is written; with the size at which one is full they bound what the audit takes."""

_log = logging.getLogger("docv2.audit.file")
_log.propagate = False

Record = dict[str, Any]


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """For its owner alone."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8", write_through=False)


@contextmanager
def writing(file: Path, *, rotate_at: int) -> Iterator[None]:
    """Keep what is recorded while the context is open, written by a thread; all of it is there when it closes."""
    output = _PrivateFile(file, maxBytes=rotate_at, backupCount=FILES)
    handler = logging.handlers.QueueHandler(queue.SimpleQueue())
    listener = logging.handlers.QueueListener(handler.queue, output)
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        _log.removeHandler(handler)
        listener.stop()
        output.close()


def record(entry: Record) -> None:
    """Keep one; nothing where no file is open."""
    if _log.hasHandlers():
        _log.info("%s", json.dumps(entry))


def search(
    file: Path,
    *,
    user: str | None = None,
    verb: str | None = None,
    path: str | None = None,
    since: float = 0.0,
    until: float = float("inf"),
    limit: int = 100,
) -> list[Record]:
    """Newest first: those of a user (id or e-mail), with a method, with words in the address, of a time (Unix seconds).

    Reads files: not on the event loop.
    """
    found: list[Record] = []
    for one in (file, *(file.with_name(f"{file.name}.{number}") for number in range(1, FILES + 1))):
        try:
            lines = one.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            continue
        for line in reversed(lines):
            try:
                entry: Record = json.loads(line)
            except ValueError:  # cut short by a crash
                continue
            who = entry["user"]
            if (
                (user is None or user in (who.get("id"), who.get("email")))
                and (verb is None or verb == entry["verb"])
                and (path is None or path in entry["request_uri"])
                and since <= entry["timestamp"] <= until
            ):
                found.append(entry)
                if len(found) == limit:
                    return found
    return found
