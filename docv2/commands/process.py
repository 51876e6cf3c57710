"""`docv2 process`: ask a question of documents, through any docv2 server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from docv2.client import (
    APIError,
    AsyncClient,
    AuthError,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    RejectedFile,
    Result,
    Task,
    TaskFailed,
)
from docv2.client.operations import PATIENCE
from docv2.commands.terminal import Screen, abandon, duration, harmless, one_line

AT_ONCE = 32
"""Files on the server at a time: a few more than the largest server works on, so that none of its slots is idle."""
REDRAW = 0.1
"""Seconds."""
LAST_WORD = 5.0
"""Seconds that a finished upload has to tell its task's id, so that an interrupted run can cancel that one too."""

OF_ONE_FILE = (TaskFailed, RejectedFile, NotFound, Conflict, OSError)
"""What goes wrong with one file; the others are answered all the same."""
MENDED_BY_CALLER = (AuthError, InvalidRequest)
"""What would go wrong with every file, because the key, the question or a parameter is wrong."""

FAILED = 1
USAGE = 2
NO_SERVICE = 3
INTERRUPTED = 130


@dataclass
class Job:
    """One file of the run."""

    path: Path
    task: Task | None = None
    """As last told by the server."""
    result: Result | None = None
    error: Exception | None = None
    sent: int = 0
    size: int | None = None
    """Bytes of the upload, and of what it will be."""
    begun: bool = False
    cancelled: bool = False
    left_behind: str = ""
    """Why it may have a task on the server that runs on."""

    def on_upload(self, sent: int, size: int | None) -> None:
        """Take note of how much was sent."""
        self.sent, self.size = sent, size

    def on_change(self, task: Task) -> None:
        """Take note of what the server told."""
        self.task = task

    @property
    def unsent(self) -> bool:
        """Whether the server has no task for it, for a reason that is not the file's."""
        return self.task is None and self.error is not None and not isinstance(self.error, OF_ONE_FILE)


@dataclass(frozen=True)
class Question:
    """What is asked of every file."""

    prompt: str
    options: dict[str, Any] = field(default_factory=dict)


class Run:
    """Files on their way through the server, a bounded number at a time, in the order given."""

    def __init__(self, client: AsyncClient, jobs: Sequence[Job], question: Question) -> None:
        self._client = client
        self._jobs = jobs
        self._question = question
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.stopped: ClientError | None = None
        """Why no more files are sent; what the server has taken is waited for all the same."""
        self._turn = asyncio.Lock()
        """One upload at a time: the server's queue has the order given, and the first answer comes first."""
        self._followed = 0
        """Tasks of the run that the server has and that have not ended."""
        self._one_ended = asyncio.Event()

    async def answered(self) -> AsyncGenerator[Job]:
        """Each job at its end, in the order given. However this ends, nothing of the run stays behind on the server."""
        asking = [asyncio.create_task(self._ask(job)) for job in self._jobs]
        try:
            for job, asked in zip(self._jobs, asking, strict=True):
                await asyncio.shield(asked)  # an interruption goes to all at once, and not to this one first
                yield job
        finally:
            for asked in asking:
                asked.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, job: Job) -> None:
        async with self._slots:
            try:
                async with self._turn:
                    task = await self._submit_where_there_is_room(job)
                job.result = await self._follow(job, task)
            except OF_ONE_FILE as error:
                job.error = error
            except ClientError as error:
                job.error = error
                self.stopped = self.stopped or error
            finally:
                if job.task is not None and not job.task.ended:
                    job.left_behind = "the server has not answered"
                    await self._cancel(job, job.task.task_id)

    async def _follow(self, job: Job, task: Task) -> Result:
        self._followed += 1
        try:
            return await self._client.wait(task.task_id, on_change=job.on_change)
        finally:
            self._followed -= 1
            self._one_ended.set()

    async def _submit_where_there_is_room(self, job: Job) -> Task:
        """A limit on what may wait at a time ends nothing while the run's own tasks make room, one after the other."""
        while True:
            if self.stopped is not None:
                raise self.stopped
            self._one_ended.clear()
            try:
                return await self._submit(job)
            except RateLimited as error:
                may_make_room = self._followed or self._one_ended.is_set()
                if not may_make_room or (error.retry_after or 0) > PATIENCE:  # so many in an hour, or a day
                    raise
            await self._one_ended.wait()

    async def _submit(self, job: Job) -> Task:
        job.begun = True
        submission = asyncio.create_task(
            self._client.process(job.path, self._question.prompt, on_upload=job.on_upload, **self._question.options)
        )
        try:
            job.task = await asyncio.shield(submission)
        except asyncio.CancelledError:
            if job.size is None or job.sent < job.size:
                submission.cancel()
            else:
                job.left_behind = "the server has not said whether it took it"
            with contextlib.suppress(ClientError, TimeoutError, asyncio.CancelledError):
                try:
                    job.task = await asyncio.wait_for(submission, LAST_WORD)
                except APIError:
                    job.left_behind = ""  # it did not
            raise
        return job.task

    async def _cancel(self, job: Job, task_id: str) -> None:
        try:
            job.task = await self._client.cancel(task_id)
            job.cancelled, job.left_behind = True, ""
        except (Conflict, NotFound):
            job.left_behind = ""  # it ended by itself meanwhile
        except ClientError as error:
            job.left_behind = error.detail


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("prompt")
@click.option("--url", envvar="DOCV2_URL", show_envvar=True, help="The server.  [default: http://127.0.0.1:3000]")
@click.option(
    "--api-key", envvar="DOCV2_API_KEY", show_envvar=True, help="Better set as a variable: others see options."
)
@click.option("--model", help="Ask this model instead of the server's default.")
@click.option("--temperature", type=float, help="From 0.0 to 2.0.")
@click.option("--max-tokens", type=int, help="Longest answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
def process(
    files: tuple[Path, ...],
    prompt: str,
    url: str | None,
    api_key: str | None,
    model: str | None,
    temperature: float | None,
    max_tokens: int | None,
    as_json: bool,
) -> None:
    """Ask the question PROMPT of each of FILES and print the answers.

    Answers go to standard output in the order of the files; progress, warnings and errors to standard error. Ctrl-C,
    SIGTERM and SIGHUP cancel on the server whatever this command sent there. Where the server takes no more
    documents, the rest is named as not sent, and what it has taken is answered all the same.

    \b
    Exit status:
      0    every file was answered
      1    some file was not: its task failed or was refused
      2    the command, the key, the question or a parameter is wrong
      3    the server cannot be reached or does not take documents now
      130  interrupted
    """  # noqa: D301
    if sys.stderr is None:  # closed, as by `2>&-`
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stdout is None:
        raise click.UsageError("standard output is closed: the answers would go nowhere")
    if os.path.isfile(prompt):  # noqa: PTH113  (Path.is_file raises on long questions)
        raise click.UsageError(f"the question is missing: {harmless(prompt)} is a file")
    options = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
    jobs = [Job(path) for path in files]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        client = AsyncClient(url, api_key)
    except ValueError as error:
        raise click.UsageError(harmless(str(error))) from None
    try:
        asyncio.run(_run(client, jobs, Question(prompt, options), as_json=as_json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _tell(f"interrupted; cancelled on the server: {sum(job.cancelled for job in jobs)}")
        status = INTERRUPTED
    except MENDED_BY_CALLER as error:
        _complain(error)
        status = USAGE
    except ClientError as error:
        _complain(error)
        status = NO_SERVICE
    except OSError as error:  # of standard output: what is wrong with a file is kept with it
        abandon(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _complain(error, "standard output")
        status = FAILED
    else:
        status = FAILED if any(job.error for job in jobs) else 0
    for job in jobs:
        if job.left_behind:
            named = f"task {job.task.task_id}" if job.task else str(job.path)
            _tell(f"not cancelled: {one_line(named)}: {one_line(job.left_behind)}")
    sys.exit(status)


async def _run(client: AsyncClient, jobs: Sequence[Job], question: Question, *, as_json: bool) -> None:
    _heed_signals()
    screen = Screen(sys.stderr)
    notices = _Notices(screen)
    logging.getLogger("docv2.client").addHandler(notices)
    drawing = asyncio.create_task(_draw(screen, jobs))
    run = Run(client, jobs, question)
    try:
        async with client, contextlib.aclosing(run.answered()) as answered:
            # A wrong address is told at once, and not after the patience that a submission has with a busy server.
            await client.health()
            async for job in answered:
                screen.clear()
                _print(job, named=len(jobs) > 1, as_json=as_json)
    finally:
        drawing.cancel()
        screen.clear()
        logging.getLogger("docv2.client").removeHandler(notices)
    if run.stopped is not None:
        raise run.stopped


def _heed_signals() -> None:
    """Let Ctrl-C and what a supervisor or a closed terminal sends end the run, which then cancels its tasks.

    A second Ctrl-C does not wait for the server. The others may well come twice by themselves.
    """
    run, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert run is not None

    def stop(number: int, _: object) -> None:
        if not run.cancelling():
            run.cancel()
            loop.call_soon_threadsafe(lambda: None)  # the loop may be asleep
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)


class _Notices(logging.Handler):
    """Shows what the client has to say while it tries again."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.clear()
        _tell(one_line(record.getMessage()))


async def _draw(screen: Screen, jobs: Sequence[Job]) -> None:
    while screen.live:
        ended = sum(1 for job in jobs if job.result or job.error)
        under_way = [job for job in jobs if job.begun and not job.result and not job.error]
        lines = [screen.line(job.path.name, *_progress(job)) for job in under_way]
        screen.draw([*([f"{ended} of {len(jobs)} files done"] if len(jobs) > 1 else []), *lines])
        await asyncio.sleep(REDRAW)


def _progress(job: Job) -> tuple[float | None, str]:
    """How far a job is, in percent where that can be said, and in words."""
    task = job.task
    if task is None:
        if not job.size or job.sent == job.size:
            return None, "sent" if job.sent else "sending"
        return 100 * job.sent / job.size, f"sending {job.sent / 1e6:.1f} of {job.size / 1e6:.1f} MB"
    if task.position is None:
        return task.progress, task.message
    wait = "" if task.estimated_time is None else f", answer in about {duration(task.estimated_time)}"
    return None, f"{task.message}: position {task.position}{wait}"


def _print(job: Job, *, named: bool, as_json: bool) -> None:
    name = str(job.path)
    terminal = sys.stdout.isatty()
    if as_json:
        _answer(json.dumps(_document(job), ensure_ascii=terminal))
    if job.unsent:
        if named:  # why is the same for all of them, and said at the end
            _tell(f"{one_line(name)}: not sent")
    elif job.error is not None:
        _complain(job.error, name)
    if job.result is None:
        return
    for warning in job.result.warnings:
        _tell(f"{one_line(name)}: warning: {one_line(warning)}")
    if not as_json:
        content = harmless(job.result.content) if terminal else job.result.content
        _answer(f"==> {one_line(name)} <==\n{content}\n" if named else content)


def _answer(text: str) -> None:
    # click would take out what looks like colour; what is not for a terminal is passed on as it is.
    click.echo(text, color=True)


def _document(job: Job) -> dict[str, Any]:
    told = dict(job.task.raw) if job.task else {}
    if isinstance(job.error, ClientError) and not isinstance(job.error, TaskFailed):
        status = "unsent" if job.unsent else "failed"
        told |= {"status": status, "error": job.error.detail, "error_type": job.error.error_type}
    elif job.error:
        told |= {"status": "failed", "error": _words(job.error), "error_type": None}
    return {"file": str(job.path), **told}


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _complain(error: Exception, name: str = "docv2") -> None:
    hint = "; set DOCV2_API_KEY or give --api-key" if getattr(error, "status", None) == 401 else ""
    if isinstance(error, APIError) and error.retry_after is not None:
        hint += f"; try again in {duration(error.retry_after)}"
    known = getattr(error, "request_id", None)
    _tell(f"{one_line(name)}: {one_line(_words(error))}{hint}" + (f" (request {one_line(known)})" if known else ""))


def _tell(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # a terminal that was closed: nobody is left to be told
        abandon(sys.stderr)
