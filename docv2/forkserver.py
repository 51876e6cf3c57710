"""The fork server: a small process that loads what jobs need and forks one confined child for each.

sandbox.py starts it and talks to it over one socket; when that closes it ends, and every child with it. It is
single-threaded and knows nothing of the server: no environment, no descriptors, no event loop. Started as
`python -m docv2.forkserver DESCRIPTOR`.

Every message is one JSON packet (SOCK_SEQPACKET keeps their borders). On the control socket the server says
`{"fork": id, "load": [module, …]}` with two descriptors, the job's channel and its stderr, or `{"kill": id}`; it hears
`{"ready": pid}`, `{"forked": id, "pid": …}` and `{"ended": id, "exit": …, "peak": bytes, "cpu": seconds}`. On its
channel a child hears one `Request` and then a byte for each item that was taken; it says `{"item": …}` any number of
times and last one of `{"end": null}`, `{"document_error": message}`, `{"out_of_memory": null}`, `{"bug": traceback}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from docv2.errors import DocumentError

MAX_MESSAGE = 128 * 1024
"""Bytes of one message; below the kernel's default socket buffer of 208 KiB. What is larger travels in files."""

OPEN_FILES = 64
"""Descriptors a child may hold: a document, a few fonts, the page being written."""

NICE = 5
"""Where both want one core a child gets a third of what the server gets, which answers polls meanwhile."""

OOM_SCORE = 800
"""When the machine runs out of memory the kernel ends a child (1000 is first) and not the server or the database."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


class Request(TypedDict):
    """What a child is to run, and within which limits."""

    job: str
    """`module:function`."""
    args: list[Any]
    look_ahead: int
    memory: int
    """Bytes of address space."""
    cpu_seconds: int
    """CPU time of one step."""
    total_seconds: int
    """CPU time of all steps."""
    file_size: int
    """Bytes of one file written."""


class MessageTooLarge(ValueError):
    """A job yielded more than a message may hold; such things go into files."""


def packet(message: object) -> bytes:
    """One message as bytes; MessageTooLarge where it is larger than the other side reads."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise MessageTooLarge
    return data


def main() -> None:
    """Fork on request until the server is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    logging.disable(logging.CRITICAL)  # What parsers think of a document is for nobody to read.
    sys.stderr = sys.stdout  # /dev/null. Descriptor 2 is left to the last words of C libraries.
    # Signals to the whole group mean that the server drains; children end by SIGKILL alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(control)


def serve(control: socket.socket) -> None:
    """Fork, kill and reap until the control socket closes."""
    wake, wakened = socket.socketpair()
    wake.setblocking(False)
    wakened.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakened.fileno())
    pids: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        control.send(packet({"ready": os.getpid()}))
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if wake in ready:
                wake.recv(4096)
                _reap(control, pids)
            if control in ready:
                data, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 2)
                if not data:
                    for pid in pids.values():
                        os.kill(pid, signal.SIGKILL)
                    for pid in pids.values():
                        os.waitpid(pid, 0)  # Not left to an init process, which a container may not have.
                    return
                message = json.loads(data)
                if "kill" in message and message["kill"] in pids:
                    # Only this process reaps, so the number cannot belong to anyone else yet.
                    os.kill(pids[message["kill"]], signal.SIGKILL)
                elif "fork" in message:
                    _load(message["load"])
                    forked = _fork(descriptors, (selector, wake, wakened, control))
                    if forked is None:
                        control.send(packet({"ended": message["fork"], "exit": None, "peak": 0, "cpu": 0.0}))
                    else:
                        pids[message["fork"]] = forked
                        control.send(packet({"forked": message["fork"], "pid": forked}))


_tried: set[str] = set()
"""Modules that were loaded, or could not be."""


def _load(modules: Iterable[str]) -> None:
    """Load modules for this child and all that follow; those of a reader take up to 10 MB and 0.3 s."""
    missing = [name for name in modules if name not in _tried]
    for name in missing:
        _tried.add(name)
        # One that does not load is reported by the child, which tries again, and hinders no other one.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if missing:
        gc.collect()
        gc.freeze()  # Collections in a child then leave the shared pages alone.


def _fork(descriptors: list[int], mine: Iterable[socket.socket | selectors.BaseSelector]) -> int | None:
    """A new child, to which the descriptors go; None where the machine has no memory or no process left for one."""
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        pid = None
    if pid == 0:
        _run_child(*descriptors, mine=mine, server=server)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _reap(control: socket.socket, pids: dict[int, int]) -> None:
    """Report every child that ended, with its exit code as subprocess has it and what it used."""
    ids = {pid: number for number, pid in pids.items()}
    while pids:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        del pids[ids[pid]]
        report = {
            "ended": ids[pid],
            "exit": os.waitstatus_to_exitcode(status),
            "peak": usage.ru_maxrss * 1024,
            "cpu": usage.ru_utime + usage.ru_stime,
        }
        control.send(packet(report))


def _run_child(
    channel_descriptor: int,
    stderr_descriptor: int,
    *,
    mine: Iterable[socket.socket | selectors.BaseSelector],
    server: int,
) -> NoReturn:
    """Be the child: let go of the fork server's things, run the job, and end without running anybody's clean-up."""
    try:
        signal.set_wakeup_fd(-1)
        for inherited in mine:
            inherited.close()
        os.dup2(stderr_descriptor, 2)
        os.close(stderr_descriptor)
        faulthandler.enable(file=2)  # A crash in C then names the line of ours that called it.
        channel = socket.socket(fileno=channel_descriptor)
        request: Request = json.loads(channel.recv(MAX_MESSAGE))
        channel.send(_outcome(channel, request, server))
    finally:
        os._exit(0)


def confine(request: Request, *, parent: int) -> None:
    """Give up what a parser does not need. Nothing here can be taken back by this process."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It was gone before the line above could notice.
        os._exit(1)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A container may refuse these two, which only say who goes first.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    with contextlib.suppress(OSError):
        os.nice(NICE)
    _limit(resource.RLIMIT_AS, request["memory"])
    _limit(resource.RLIMIT_FSIZE, request["file_size"])
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, 0)  # No process or thread of its own (root is exempt), so none outlives it.
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, request["total_seconds"])
    _grant_cpu(request["cpu_seconds"])


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _grant_cpu(seconds: int) -> None:
    """Let the next step use so much CPU time: a long document is none that hangs. SIGXCPU ends what uses more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(hard, int(used.ru_utime + used.ru_stime) + 1 + seconds), hard))


def _outcome(channel: socket.socket, request: Request, server: int) -> bytes:
    """Run the job, sending its items; the last word on it."""
    try:
        confine(request, parent=server)
        module, _, function = request["job"].partition(":")
        ahead = 0
        for item in getattr(importlib.import_module(module), function)(*request["args"]):
            channel.send(packet({"item": item}))
            ahead += 1
            if ahead == request["look_ahead"]:
                if not channel.recv(1):
                    os._exit(0)  # Nobody wants the rest.
                ahead -= 1
            _grant_cpu(request["cpu_seconds"])
        return packet({"end": None})
    except DocumentError as error:
        return packet({"document_error": error.message[:1000]})
    except MemoryError:
        return packet({"out_of_memory": None})
    except BaseException as error:  # noqa: BLE001 - whatever it was, the server logs it
        # Without its message, which may quote the document.
        return packet({"bug": f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__qualname__}"[-8000:]})


if __name__ == "__main__":
    main()
