"""Running a parser in a child process of its own, with limits, so that no document can hurt the server.

A fork server (forkserver.py) forks one child for each run, with what the job needs loaded and nothing of the server
in reach: not its environment, descriptors or memory. A child that explodes, hangs or dies fails its own run and
nothing else. It is no jail against a takeover: a child runs as the server's user and may read what that user may read.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from docv2.errors import DocumentError, DocV2Error, OverLimit, ParserDied, StartError
from docv2.forkserver import MAX_MESSAGE, Request, packet
from docv2.telemetry import metrics

Job = Callable[..., Iterator[Any]]
"""A module-level generator function. Its arguments and what it yields are plain JSON."""

PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TESSDATA_PREFIX", "TZ")
"""The only variables of the server's environment that children have. None holds a secret."""

SETTLED = {
    "PYTHONUTF8": "1",
    "OMP_THREAD_LIMIT": "1",
    # glibc raises this with each large block that is freed, up to 32 MiB; page pictures then come from the heap, which
    # never shrinks: 1,000 scanned pages took 190 MiB, and 85 with it settled, in four fifths of the time.
    "MALLOC_MMAP_THRESHOLD_": "262144",
}
"""And these beside them."""

START_SECONDS = 60.0
"""Longest wait for the fork server: a tenth of a second on an idle machine."""

CRASHES = {-signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGSEGV, -signal.SIGTRAP}

TOO_MUCH_MEMORY = "Reading the document takes more memory than allowed."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """A living child, as the memory gate sees it."""

    owner: str
    pid: int
    started_at: float
    """Monotonic seconds."""
    memory: int
    """Bytes resident now; 0 where it has just ended."""


@dataclass(frozen=True, slots=True)
class _Exit:
    code: int | None
    """As subprocess has it: negative for a signal; None where there was no child, or the fork server took it along."""
    peak: int = 0
    cpu: float = 0.0


@dataclass(slots=True)
class _Run:
    number: int
    owner: str
    memory_limit: int
    channel: socket.socket
    stderr: int
    ended: asyncio.Future[_Exit]
    started_at: float = field(default_factory=time.monotonic)
    pid: int | None = None
    memory_before: int = field(default_factory=lambda: _resident(os.getpid()))


class Sandbox:
    """Starts children and keeps count of those alive."""

    def __init__(
        self,
        *,
        memory_limit: int = 2 * 1024**3,
        cpu_seconds: int = 60,
        step_seconds: float = 120.0,
        total_seconds: float = 6 * 3600.0,
        file_size: int = 64 * 1024**2,
        look_ahead: int = 4,
    ) -> None:
        """Limits of one child.

        `memory_limit`: bytes of address space. `cpu_seconds`, `step_seconds`: CPU and wall time from one item to the
        next. `total_seconds`: of the whole run, as long as the server waits for it; time in which the child waits for
        the server counts nowhere. `file_size`: bytes of one file written. `look_ahead`: items that a child finishes
        before the first of them was taken.
        """
        self._memory_limit = memory_limit
        self._cpu_seconds = cpu_seconds
        self.step_seconds = step_seconds
        self._total_seconds = total_seconds
        self._file_size = file_size
        self._look_ahead = look_ahead
        self._numbers = itertools.count(1)
        self._runs: dict[int, _Run] = {}
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    # -- the fork server ----------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Start the fork server and wait until it is ready; nothing where it runs. StartError."""
        async with self._starting:
            if self._control is not None:
                return
            await self._end_process()
            control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            control.setblocking(False)
            stderr, their_stderr = _scrap()
            try:
                with theirs, os.fdopen(their_stderr, "wb", buffering=0) as scrap:
                    self._process = await _launch(theirs.fileno(), scrap)
                async with asyncio.timeout(START_SECONDS):
                    if not await asyncio.get_running_loop().sock_recv(control, MAX_MESSAGE):
                        raise StartError("The fork server of the document readers ended while it started.")
            except BaseException as error:
                control.close()
                await self._end_process()
                log.error("fork server did not start", extra={"stderr": _tail(stderr)})
                if isinstance(error, TimeoutError):
                    raise StartError("The fork server of the document readers takes too long to start.") from None
                raise
            finally:
                os.close(stderr)
            self._control = control
            asyncio.get_running_loop().add_reader(control, self._on_report, control)

    async def close(self) -> None:
        """End the fork server and with it every child."""
        async with self._starting:
            if self._control is not None:
                self._lose(self._control)
                assert self._process is not None
                await self._process.wait()
            await self._end_process()

    async def _end_process(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await self._process.wait()
            self._process = None

    def _on_report(self, control: socket.socket) -> None:
        """Take what the fork server says of its children."""
        try:
            data = control.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            log.error("fork server gone; it is started again for the next document")
            self._lose(control)
            return
        report = json.loads(data)
        if "forked" in report:
            self._runs[report["forked"]].pid = report["pid"]
        else:
            self._finish(self._runs[report["ended"]], _Exit(report["exit"], report["peak"], report["cpu"]))

    def _lose(self, control: socket.socket) -> None:
        """Let go of the fork server; its children die with it."""
        asyncio.get_running_loop().remove_reader(control)
        control.close()
        self._control = None
        for run in list(self._runs.values()):
            self._finish(run, _Exit(None))

    def _finish(self, run: _Run, exit_: _Exit) -> None:
        del self._runs[run.number]
        if not run.ended.done():
            run.ended.set_result(exit_)

    def _tell(self, message: dict[str, object], descriptors: Sequence[int] = ()) -> None:
        """Hand the fork server a message; ParserDied where it is gone. The socket holds hundreds, so none blocks."""
        try:
            if self._control is None:
                raise BrokenPipeError
            socket.send_fds(self._control, [packet(message)], descriptors)
        except OSError as error:
            raise ParserDied("The fork server of the document readers is gone.") from error

    # -- children -----------------------------------------------------------------------------------------------------
    def children(self) -> list[Child]:
        """Those alive, oldest first."""
        return [
            Child(run.owner, run.pid, run.started_at, _resident(run.pid))
            for run in self._runs.values()
            if run.pid is not None
        ]

    def _kill(self, run: _Run) -> None:
        if run.number in self._runs:
            with suppress(ParserDied):  # Then it is dead already.
                self._tell({"kill": run.number})

    async def run(
        self,
        job: Job,
        /,
        *args: Any,
        owner: str,
        needs: Sequence[str] = (),
        memory_limit: int | None = None,
        seconds: int | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield what `job(*args)` yields in a child process, checked for nothing but being JSON.

        The fork server loads the job's module, and those that it `needs` besides, once for all children.
        `memory_limit` and `seconds` (both CPU and wall time of a step) stand in for the limits of every child.
        Close the generator (contextlib.aclosing) to end the child early. Raises the job's own DocumentError, OverLimit
        where it takes more memory or time than allowed, DocumentError for any other exception of the job, which is
        logged, and ParserDied where the child ended without a word.
        """
        request = Request(
            job=f"{job.__module__}:{job.__qualname__}",
            args=list(args),
            look_ahead=self._look_ahead,
            memory=memory_limit or self._memory_limit,
            cpu_seconds=seconds or self._cpu_seconds,
            total_seconds=int(self._total_seconds) + 1,
            file_size=self._file_size,
        )
        step_seconds = seconds or self.step_seconds
        run = await self._fork(owner, request["memory"], [job.__module__, *needs])
        outcome = "stopped"
        try:
            with suppress(ConnectionError):  # A child that is gone already is noticed where it is listened to.
                await asyncio.get_running_loop().sock_sendall(run.channel, packet(request))
            waited = 0.0
            while True:
                began = time.monotonic()
                try:
                    async with asyncio.timeout(min(step_seconds, self._total_seconds - waited)):
                        word, value = await self._hear(run)
                except TimeoutError:
                    raise OverLimit("Reading the document takes longer than allowed.") from None
                except DocV2Error:
                    outcome = "died"
                    raise
                waited += time.monotonic() - began
                if word == "item":
                    with suppress(OSError):  # Dead, or not listening: then it gets no further by itself.
                        run.channel.send(b"+")
                    yield value
                elif word == "end":
                    outcome = "finished"
                    return
                else:
                    outcome = "failed"
                    raise _error(run, word, value)
        finally:
            self._kill(run)
            try:
                _tell_usage(run, outcome, await run.ended)
            finally:
                run.channel.close()
                os.close(run.stderr)

    async def _fork(self, owner: str, memory_limit: int, modules: Sequence[str]) -> _Run:
        """A new child that waits for its request."""
        try:
            await self.start()
        except StartError as error:
            raise ParserDied(error.message) from error
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.setblocking(False)
        stderr, their_stderr = _scrap()
        ended = asyncio.get_running_loop().create_future()
        run = _Run(next(self._numbers), owner, memory_limit, channel, stderr, ended)
        try:
            self._tell({"fork": run.number, "load": modules}, [theirs.fileno(), their_stderr])
        except BaseException:
            channel.close()
            os.close(stderr)
            raise
        finally:
            theirs.close()
            os.close(their_stderr)
        self._runs[run.number] = run
        return run

    async def _hear(self, run: _Run) -> tuple[str, Any]:
        """The child's next word. What it sends is bounded by the read, and nothing in it is believed."""
        while True:
            try:
                data = await asyncio.get_running_loop().sock_recv(run.channel, MAX_MESSAGE)
            except ConnectionResetError:
                continue  # Linux says once that the child died with words of ours unread; its own come after that.
            break
        if not data:
            self._kill(run)  # In case it merely closed its end; one that ended keeps its exit code.
            raise self._death(run, await run.ended)
        try:
            [(word, value)] = json.loads(data).items()
        except (ValueError, AttributeError, RecursionError) as error:
            raise ParserDied("The reading child sent what is no message.") from error
        return word, value

    def _death(self, run: _Run, exit_: _Exit) -> Exception:
        """What it means that the child ended without a last word."""
        if exit_.code == -signal.SIGXCPU:
            return OverLimit("Reading the document takes more processing time than allowed.")
        # C libraries that get no memory crash or abort. Most of the limit in use tells that from a fault of theirs.
        if exit_.code in CRASHES and exit_.peak > run.memory_limit / 2:
            return OverLimit(TOO_MUCH_MEMORY)
        log.error("child died", extra={"owner": run.owner, "exit": exit_.code, "stderr": _tail(run.stderr)})
        return ParserDied(f"The reading child ended with code {exit_.code}.")


def _error(run: _Run, word: str, value: object) -> Exception:
    """What the child's last word means."""
    if word == "document_error":
        message = "".join(c for c in str(value) if c.isprintable())
        return DocumentError(message or "The document cannot be read.")
    if word == "out_of_memory":
        return OverLimit(TOO_MUCH_MEMORY)
    log.error("child failed", extra={"owner": run.owner, "traceback": str(value)})
    return DocumentError("The document cannot be read.")


def _tell_usage(run: _Run, outcome: str, exit_: _Exit) -> None:
    """Log what a child took: memory of the server before and after it, its own at its peak."""
    metrics.PARSER_MEMORY.observe(exit_.peak)
    fields = {
        "owner": run.owner,
        "seconds": round(time.monotonic() - run.started_at, 2),
        "cpu_seconds": round(exit_.cpu, 2),
        "server_mib_before": run.memory_before >> 20,
        "child_mib_peak": exit_.peak >> 20,
        "server_mib_after": _resident(os.getpid()) >> 20,
    }
    log.info("child %s", outcome, extra=fields)


async def _launch(control: int, stderr: IO[bytes]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-W", "ignore", "-m", "docv2.forkserver", str(control)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=[control],
        env=_environment(),
        umask=0o077,
        # Ctrl-C at a terminal is for the server alone. No session of its own: the kernel shares a core out by sessions
        # first, and the children's niceness would count for nothing.
        process_group=0,
    )


def _environment() -> dict[str, str]:
    """All that the fork server and its children get to know of the server's environment."""
    here = str(Path(__file__).parent.parent)
    paths = os.pathsep.join([here, *(entry for entry in sys.path if Path(entry).is_absolute())])
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**kept, **SETTLED, "PYTHONPATH": paths}


def _scrap() -> tuple[int, int]:
    """A pipe for last words on stderr. Nobody reads it before the end, and writing never blocks: 64 KiB are kept."""
    theirs: int
    ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return ours, theirs


def _tail(stderr: int) -> str:
    with suppress(BlockingIOError):
        return os.read(stderr, 1 << 16)[-4000:].decode(errors="replace")
    return ""


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds now; 0 where there is none. /proc is no disk: this does not block."""
    try:
        statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0
    try:
        return int(os.read(statm, 100).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except ProcessLookupError:
        return 0
    finally:
        os.close(statm)
