"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx2

from docv2.client import operations, transport
from docv2.client.errors import Unreachable
from docv2.client.models import Config, Health, Models, Result, Task, TaskList
from docv2.client.operations import OnChange, Operation, Pause, Reply, Request
from docv2.client.upload import OnUpload, Source, Upload

T = TypeVar("T")


class Client:
    """Talks to one docv2 server. May be shared by threads; close it, or use it in a `with`."""

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, patience: float = operations.PATIENCE
    ) -> None:
        """`url` and `api_key` default to DOCV2_URL, else http://127.0.0.1:3000, and DOCV2_API_KEY.

        `patience`: seconds after its first failure that a submission is tried again while the server cannot be reached
        or says `not now`.
        """
        self._http = httpx2.Client(**transport.options(url, api_key))
        self._patience = patience

    def process(
        self,
        file: Source,
        prompt: str,
        *,
        filename: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        idempotency_key: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> Task:
        """Upload a document with a question; returns as soon as the server has it safe.

        `filename` is needed where `file` has none: its extension tells the type. A submission that may have been lost
        is sent again under the same `idempotency_key`, made here where none is given, and is never a second task.
        """
        upload = Upload(file, filename, operations.form(prompt, model, temperature, max_tokens), on_upload)
        return self._run(operations.submit(upload, idempotency_key=idempotency_key, patience=self._patience))

    def status(self, task_id: str, wait: float | None = None) -> Task:
        """Where a task stands. `wait`: at most so many seconds, up to 60, for it to change."""
        return self._run(operations.status(task_id, wait))

    def wait(self, task_id: str, timeout: float | None = None, on_change: OnChange | None = None) -> Result:
        """Wait for the answer, through restarts of the server. TaskFailed or, after `timeout` seconds, WaitTimeout.

        `on_change` is called with the task each time it has changed.
        """
        return self._run(operations.wait(task_id, timeout, on_change))

    def tasks(self, status: str | None = None, *, limit: int | None = None, cursor: str | None = None) -> TaskList:
        """One's own tasks, newest first and without their results, `limit` at a time: at most 100, else 20.

        `status`: only such; `pending` and `queued` both find all that wait. `cursor`: `next_cursor` of the page before.
        """
        return self._run(operations.tasks(status, limit, cursor))

    def cancel(self, task_id: str) -> Task:
        """Stop a task, waiting or running. Conflict where it has ended."""
        return self._run(operations.cancel(task_id))

    def models(self) -> Models:
        """The models that the caller may use; those open to everyone without a key."""
        return self._run(operations.get(Models, "/api/v2/models"))

    def health(self) -> Health:
        """How the server is; no key needed. An unhealthy server answers too."""
        return self._run(operations.get(Health, "/api/v2/health", also=operations.UNHEALTHY))

    def config(self) -> Config:
        """The configuration in force."""
        return self._run(operations.get(Config, "/api/v2/config"))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, operation: Operation[T]) -> T:
        reply: Reply | Unreachable | None = None
        while True:
            try:
                step = operation.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply = self._do(step)

    def _do(self, step: Request | Pause) -> Reply | Unreachable | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        body = None if step.upload is None else _body(step.upload)
        try:
            return transport.reply(self._http.send(transport.build(self._http, step, body)))
        except httpx2.RequestError as error:
            return transport.unreachable(error)


def _body(upload: Upload) -> Iterator[bytes]:
    for piece in upload.pieces():
        upload.sent(piece)
        yield piece
