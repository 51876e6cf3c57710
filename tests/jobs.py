"""What the sandbox tests run in children: jobs that behave, and jobs that misbehave in every way there is."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docv2.errors import DocumentError


def count(number: int) -> Iterator[int]:
    yield from range(number)


def tell(items: list[Any]) -> Iterator[Any]:
    yield from items


def count_aloud(file: str, number: int) -> Iterator[int]:
    """Note each item in a file before it is handed over."""
    for item in range(number):
        with Path(file).open("a") as notes:
            notes.write(f"{item}\n")
        yield item


def surroundings() -> Iterator[dict[str, Any]]:
    """Everything this process was given."""
    mask = os.umask(0)
    yield {
        "environment": dict(os.environ),
        "own_environ": Path("/proc/self/environ").read_text(),
        "parents_environ": Path(f"/proc/{os.getppid()}/environ").read_text(),
        "parent": os.getppid(),
        "descriptors": _descriptors(),
        "folder": str(Path.cwd()),
        "umask": mask,
        "niceness": os.nice(0),
        "oom_score": int(Path("/proc/self/oom_score_adj").read_text()),
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            for name in ("AS", "CORE", "FSIZE", "NOFILE", "NPROC", "CPU")
        },
        "no_new_privileges": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
        "modules": sorted(sys.modules),
    }


def refuse(message: str) -> Iterator[int]:
    yield 1
    raise DocumentError(message)


def stumble() -> Iterator[int]:
    yield 1
    raise KeyError("/secret/path")


def eat_memory() -> Iterator[int]:
    hoard: list[bytearray] = []
    while len(hoard) < 10_000:
        hoard.append(bytearray(16 << 20))
    yield len(hoard)


def abort_full() -> Iterator[int]:
    """Fill the memory, and then do as C libraries do that get no more."""
    try:
        yield from eat_memory()
    except MemoryError:
        os.abort()


def spin() -> Iterator[int]:
    yield 1
    while True:
        pass


def work(seconds: float, steps: int) -> Iterator[int]:
    """Use so much CPU time for each item."""
    for step in range(steps):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        yield step


def hang() -> Iterator[int]:
    yield 1
    signal.pause()


def die(signal_number: int) -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), signal_number)


def crash() -> Iterator[int]:
    """Read through a null pointer, as a broken C library does."""
    yield 1
    ctypes.string_at(0)


def leave() -> Iterator[int]:
    yield 1
    os._exit(0)


def last_words(file: str) -> Iterator[str]:
    """Hand over three items, and die as soon as the file is there, whether they were taken or not."""
    yield from ("one", "two", "three")
    while not Path(file).exists():
        os.sched_yield()
    os.kill(os.getpid(), signal.SIGKILL)


def _descriptors() -> dict[int, str]:
    """What this process has open, but for the listing itself."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def _channel() -> socket.socket:
    """The job's own line to the server, which an attacker inside a child has as well."""
    [number] = [number for number, target in _descriptors().items() if target.startswith("socket")]
    return socket.socket(fileno=number)


def babble(text: str) -> Iterator[int]:
    """Send what is no message."""
    channel = _channel()
    channel.send(text.encode())
    signal.pause()
    yield 0


def shout(size: int) -> Iterator[str]:
    """Send one item of so many characters."""
    yield "x" * size


def flood() -> Iterator[int]:
    """Send for ever, taken or not."""
    channel = _channel()
    while channel.send(b'{"item":0}'):
        pass
    yield 0


def hang_up() -> Iterator[int]:
    """Close the line and live on."""
    _channel().close()
    signal.pause()
    yield 0


def make_noise() -> Iterator[int]:
    print("noise on stdout", flush=True)
    print("noise on stderr", file=sys.stderr, flush=True)
    os.write(2, b"noise from C\n")
    logging.getLogger("parser").error("noise in the log")
    warnings.warn("noise as a warning", stacklevel=1)
    with contextlib.suppress(BlockingIOError):  # More than anybody keeps is refused, it does not block.
        for _ in range(100):
            os.write(2, b"." * 1000)
    print("more noise on stderr", file=sys.stderr, flush=True)
    yield 1


def write_file(file: str, size: int) -> Iterator[int]:
    with Path(file).open("wb") as out:
        yield out.write(b"x" * size)


def fork() -> Iterator[str]:
    """Try to leave a process behind, as a user who is not root, whom the limit is not for."""
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        if os.fork() == 0:
            os._exit(0)
    except BlockingIOError:
        yield "refused"
    else:
        yield "forked"


def loaded(module: str) -> Iterator[bool]:
    yield module in sys.modules
