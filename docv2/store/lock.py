"""The instance lock: one server a data directory, so that a start may treat running tasks as orphans."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docv2.errors import StartError

NAME = "docv2.lock"


@contextmanager
def instance_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; StartError where another server does.

    The kernel lets go of it with the process, however that ends. The file stays: removing it would let two servers
    lock two files of one name. Children that are started by exec do not inherit the descriptor.
    """
    path = data_dir / NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise StartError(f"{data_dir} is in use by another docv2 server (process {holder})") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
