"""Everything the client does, written once and without I/O.

An operation is a generator. It yields what it needs done, a Request to send or a Pause to make, and gets back the Reply
or Unreachable; it returns what the caller wants. `Client` and `AsyncClient` do the sending and the pausing.
"""

from __future__ import annotations

import json
import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

from docv2.client.errors import (
    BY_STATUS,
    APIError,
    ClientError,
    RateLimited,
    TaskFailed,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from docv2.client.models import Answer, Result, Task, TaskList
from docv2.client.upload import Upload

log = logging.getLogger("docv2.client")

LONG_POLL = 30.0
"""Seconds that a status request may wait for a change. Well below the 60 s after which proxies give up by default."""
QUEUE_POLL = 5.0
"""The same while the task waits in the queue and someone watches: moving up in it ends no wait."""
POLL_INTERVAL = 0.2
"""Least seconds between two status requests, however fast the task changes."""
ANSWER_TIMEOUT = 60.0
"""Seconds without a byte after which a request counts as lost."""
LATE = 1.0
"""Seconds by which a wait may outlast the caller's timeout when the server hangs."""
BACKOFF_CAP = 5.0
"""Most seconds between two tries; nobody waits longer than that for a server that came back."""
PATIENCE = 60.0
"""Seconds after its first failure that a submission is tried again: a restart with its drain of 30 s fits in."""
TRY_AGAIN = frozenset({429, 502, 503, 504})
"""Answers that say `not now`, the server's own or those of a proxy before it. A full disk (507) needs a person."""

UNHEALTHY = frozenset({503})
"""With this status the health report comes that says why."""

A = TypeVar("A", bound=Answer)
T = TypeVar("T")
OnChange = Callable[[Task], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, relative to the server's URL."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    timeout: float = ANSWER_TIMEOUT
    """Seconds without a byte."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


Operation = Generator[Request | Pause, Reply | Unreachable | None, T]


def form(prompt: str, model: str | None, temperature: float | None, max_tokens: int | None) -> dict[str, str]:
    """The fields beside the file. What is not given is the server's to choose."""
    given = {"prompt": prompt, "model": model, "temperature": temperature, "max_tokens": max_tokens}
    return {name: str(value) for name, value in given.items() if value is not None}


def submit(upload: Upload, *, idempotency_key: str | None, patience: float) -> Operation[Task]:
    """Send a document. Tried again for `patience` seconds where the server says `not now` or the connection breaks.

    They count from the first failure: an upload may take as long as it needs. Trying again is safe through the
    idempotency key: if the first try was accepted after all, the second one gets its task.
    """
    key = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    deadline: float | None = None
    tries = 0
    while True:
        try:
            return parse(Task, (yield from _send(Request("POST", "/api/v2/process", headers=key, upload=upload))))
        except ClientError as error:
            now = time.monotonic()
            deadline = now + patience if deadline is None else deadline
            pause = backoff(tries, error)
            if isinstance(error, RateLimited):  # else the server may have taken it all the same
                upload.refused()
            if not worth_retrying(error) or not upload.repeatable or now + pause > deadline:
                raise
            log.warning("%s; sending the document again in %.1f s", error.detail, pause)
        tries += 1
        yield Pause(pause)


def status(task_id: str, wait: float | None, *, timeout: float = math.inf) -> Operation[Task]:
    """Ask for a task, once. `wait`: seconds that the server may hold the answer back until the task changes."""
    params = {} if wait is None else {"wait": f"{wait:.3f}"}
    timeout = min(timeout, (wait or 0.0) + ANSWER_TIMEOUT)
    return parse(Task, (yield from _send(Request("GET", f"/api/v2/status/{_quote(task_id)}", params, timeout=timeout))))


def wait(task_id: str, timeout: float | None, on_change: OnChange | None) -> Operation[Result]:
    """Follow a task to its end; restarts of the server and broken connections are sat out."""
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    task: Task | None = None
    tries = 0  # requests in a row that taught nothing: no answer, `not now`, or what was known without having waited
    while True:
        asked = time.monotonic()
        left = max(0.0, deadline - asked)
        watched = on_change is not None and task is not None and task.position is not None
        patience = min(QUEUE_POLL if watched else LONG_POLL, left)
        try:
            before, task = task, (yield from status(task_id, patience, timeout=left + LATE))
        except ClientError as error:
            if not worth_retrying(error):
                raise
            pause = backoff(tries, error)
            log.log(logging.INFO if tries else logging.WARNING, "%s; asking again in %.1f s", error.detail, pause)
            tries += 1
        else:
            took = time.monotonic() - asked
            if task != before and on_change is not None:
                on_change(task)
            if task.ended:
                return finished(task)
            tries = tries + 1 if task == before and took < patience / 2 else 0
            pause = backoff(tries) if tries else max(0.0, POLL_INTERVAL - took)
        if time.monotonic() + pause >= deadline:
            raise WaitTimeout(task_id, timeout or 0.0, task)
        yield Pause(pause)


def finished(task: Task) -> Result:
    """What an ended task leaves: its result, or TaskFailed."""
    if task.status == "failed":
        raise TaskFailed(task)
    if task.result is None:
        raise UnexpectedAnswer("the server calls the task completed, but sent no result")
    return task.result


def cancel(task_id: str) -> Operation[Task]:
    """Stop a task, waiting or running."""
    return parse(Task, (yield from _send(Request("DELETE", f"/api/v2/tasks/{_quote(task_id)}"))))


def tasks(task_status: str | None, limit: int | None, cursor: str | None) -> Operation[TaskList]:
    """Ask for one page of the caller's own tasks."""
    given = {"status": task_status, "limit": limit, "cursor": cursor}
    params = {name: str(value) for name, value in given.items() if value is not None}
    return parse(TaskList, (yield from _send(Request("GET", "/api/v2/tasks", params))))


def get(kind: type[A], path: str, *, also: frozenset[int] = frozenset()) -> Operation[A]:
    """Ask for something that is read in one go. `also`: statuses beside 200 whose body is an answer all the same."""
    return parse(kind, (yield from _send(Request("GET", path), also)))


def worth_retrying(error: ClientError) -> bool:
    """Whether the same request may succeed in a moment."""
    return isinstance(error, Unreachable) or error.status in TRY_AGAIN


def backoff(tries: int, error: ClientError | None = None) -> float:
    """Seconds until the next try: as the server said, else doubling, with jitter lest all clients come at once."""
    if error is not None and error.retry_after is not None:
        return error.retry_after
    return min(BACKOFF_CAP, POLL_INTERVAL * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


def parse(kind: type[A], reply: Reply) -> A:
    """The body as the given type."""
    try:
        return kind.of(_object(reply))
    except (TypeError, ValueError, AttributeError):
        raise UnexpectedAnswer(
            f"the server's answer to this request is not docv2's (HTTP {reply.status})", status=reply.status
        ) from None


def _send(request: Request, also: frozenset[int] = frozenset()) -> Operation[Reply]:
    """One request; raises what its reply means unless that is 200."""
    reply = yield request
    if isinstance(reply, Unreachable):
        raise reply
    assert reply is not None
    if reply.status == 200 or reply.status in also:
        return reply
    if reply.status < 400:
        to = reply.headers.get("location")
        raise UnexpectedAnswer(f"HTTP {reply.status}" + (f", redirects to {to}" if to else ""), status=reply.status)
    raise _refusal(reply)


def _refusal(reply: Reply) -> APIError:
    try:
        said = _object(reply)
    except ValueError:
        said = {}
    kind = BY_STATUS.get(reply.status, Unavailable if reply.status >= 500 else APIError)
    return kind(
        _text(said.get("detail")) or f"the server answered with HTTP {reply.status}",
        error_type=_text(said.get("error_type")),
        request_id=_text(said.get("request_id")) or reply.headers.get("x-request-id"),
        status=reply.status,
        retry_after=_retry_after(reply.headers.get("retry-after")),
    )


def _object(reply: Reply) -> dict[str, Any]:
    data = json.loads(reply.body)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data


def _quote(task_id: str) -> str:
    return quote(task_id, safe="")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of the header."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
