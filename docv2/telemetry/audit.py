"""Audit: who called what and what came of it, in a file of its own, a JSON object a line in Open WebUI's shape.

Never in it: a prompt, a document's text, an answer, a secret. The higher levels add names and sizes of what was sent.
"""

from __future__ import annotations

import getpass
import json
import logging
import logging.handlers
import math
import os
import queue
import secrets
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import docv2

NONE, METADATA, REQUEST, REQUEST_RESPONSE = "NONE", "METADATA", "REQUEST", "REQUEST_RESPONSE"

FILES = 10
"""Kept beside the one that is written; with the size at which one is full they bound what the audit takes."""

REPEAT_SECONDS = 600.0
"""Calls that repeat one another are counted for so long; their number is one record then."""
MOST_LOOKS = 4000
"""Counted at a time; beyond that the oldest is written early."""
LOOK_SECONDS = 30.0
"""Between looks for records that are too old."""

_log = logging.getLogger("docv2.audit.file")
_log.propagate = False
_log.disabled = True  # while no file is open

Record = dict[str, Any]


@dataclass(slots=True)
class _Look:
    """One that was recorded, and how often it was repeated since."""

    began: float
    last: float
    entry: Record
    repeated: int = 0


_looks: dict[Hashable, _Look] = {}
"""Oldest first."""


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """For its owner alone, rotated by size and by age; opened anew where logrotate has moved it."""

    def __init__(self, file: Path, *, rotate_at: int, keep_seconds: float | None) -> None:
        super().__init__(file, maxBytes=rotate_at, backupCount=FILES)
        self._keep_seconds = keep_seconds
        self._looked_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._follow()
            if self._keep_seconds is not None and time.time() - self._looked_at >= LOOK_SECONDS:
                self._looked_at = time.time()
                self._let_old_go(self._keep_seconds)
        except OSError:
            self.handleError(record)
        if record.getMessage():  # see `tidy`
            super().emit(record)

    def _follow(self) -> None:
        if self.stream is None:
            return
        ours = os.fstat(self.stream.fileno())
        try:
            there = Path(self.baseFilename).stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self.stream.close()
            self.stream = self._open()

    def _let_old_go(self, seconds: float) -> None:
        # Each file spans a tenth of the time, and goes when its last record is too old.
        file, now = Path(self.baseFilename), time.time()
        began = _began(file)
        if began is not None and now - began >= seconds / FILES:
            self.doRollover()
        for old in rotated(file):
            if old.is_file() and now - old.stat().st_mtime >= seconds:
                old.unlink()

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(os.fdopen(_descriptor(self.baseFilename), "ab"), encoding="utf-8", write_through=False)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of whom the machine has no entry
        return str(os.getuid())


def _began(file: Path) -> float | None:
    """When the first record of a file was made (Unix seconds); None where it has none."""
    try:
        with file.open(encoding="utf-8") as lines:
            return float(json.loads(lines.readline())["timestamp"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def rotated(file: Path) -> list[Path]:
    """What older files are called, the newest first."""
    return [file.with_name(f"{file.name}.{number}") for number in range(1, FILES + 1)]


def _descriptor(file: str | Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


@contextmanager
def writing(file: Path, *, rotate_at: int, keep_seconds: float | None = None) -> Iterator[None]:
    """Keep what is recorded while the context is open, written by a thread; all of it is there when it closes.

    A new file is begun at `rotate_at` bytes. Records go a tenth after `keep_seconds` at the latest; None: only when
    there are too many.
    """
    output = _PrivateFile(file, rotate_at=rotate_at, keep_seconds=keep_seconds)
    handler = logging.handlers.QueueHandler(queue.SimpleQueue())
    listener = logging.handlers.QueueListener(handler.queue, output)
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    _log.disabled = False
    listener.start()
    try:
        yield
    finally:
        _write_repeated(before=math.inf)
        _log.disabled = True
        _log.removeHandler(handler)
        listener.stop()
        output.close()


def record(entry: Record) -> None:
    """Keep one; nothing where no file is open."""
    if not _log.disabled:
        _log.info("%s", json.dumps(entry))


def record_look(what: Hashable, entry: Callable[[], Record]) -> None:
    """Keep a call that changed nothing and may come again every second: a poll, a refusal.

    The first is recorded at once. Those that repeat it, `what` being the same, are counted, and recorded together.
    """
    now = time.time()
    _write_repeated(before=now - REPEAT_SECONDS)
    if look := _looks.get(what):
        look.last = now
        look.repeated += 1
    elif not _log.disabled:
        _looks[what] = _Look(now, now, entry())
        record(_looks[what].entry)


def _write_repeated(before: float) -> None:
    """Record how often those were repeated that began before a time, and the oldest where they are too many."""
    while _looks:
        what, look = next(iter(_looks.items()))
        if look.began >= before and len(_looks) <= MOST_LOOKS:
            return
        del _looks[what]
        if look.repeated:
            record({**look.entry, "timestamp": int(look.last), "extra": {"repeated": look.repeated}})


def tidy() -> None:
    """Let old records go although nobody calls; to be called every minute or so."""
    if not _log.disabled:
        _log.info("")


def record_command(file: Path, *, level: str, verb: str, path: str) -> None:
    """Keep what was done on the command line, beside a server that may be writing, as a request to `path` is kept.

    Writes a file: not on the event loop.
    """
    entry = {
        "id": f"cli_{secrets.token_hex(8)}",
        "timestamp": int(time.time()),
        "user": {"id": "", "email": "command line", "role": "admin", "name": _login()},
        "audit_level": level,
        "verb": verb,
        "request_uri": f"cli:{path}",
        "response_status_code": 200,
        "source_ip": "",
        "user_agent": f"docv2/{docv2.__version__}",
        "extra": {},
    }
    with os.fdopen(_descriptor(file), "ab") as output:
        output.write(json.dumps(entry).encode() + b"\n")  # at once, so that no line of the server's gets into it


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
    for one in (file, *rotated(file)):
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
