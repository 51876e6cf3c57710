"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

import httpcore2  # noqa: F401  (httpx2 loads it late: at the first client, inside the event loop)
import httpx2

from docv2.client import operations, transport
from docv2.client.errors import Unreachable
from docv2.client.models import Config, Health, Models, Result, Task, TaskList
from docv2.client.operations import OnChange, Operation, Pause, Reply, Request
from docv2.client.upload import OnUpload, Source, Upload

T = TypeVar("T")


class AsyncClient:
    """As `Client`, for asyncio: the same methods, awaited. Callbacks are plain functions and run in the event loop."""

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, patience: float = operations.PATIENCE
    ) -> None:
        """As `Client`."""
        self._http = httpx2.AsyncClient(**transport.options(url, api_key))
        self._patience = patience

    async def process(
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
        """As `Client.process`."""
        fields = operations.form(prompt, model, temperature, max_tokens)
        # The disk is asked for the file's size: beside the event loop.
        upload = await asyncio.to_thread(Upload, file, filename, fields, on_upload)
        return await self._run(operations.submit(upload, idempotency_key=idempotency_key, patience=self._patience))

    async def status(self, task_id: str, wait: float | None = None) -> Task:
        """As `Client.status`."""
        return await self._run(operations.status(task_id, wait))

    async def wait(self, task_id: str, timeout: float | None = None, on_change: OnChange | None = None) -> Result:
        """As `Client.wait`."""
        return await self._run(operations.wait(task_id, timeout, on_change))

    async def tasks(
        self, status: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> TaskList:
        """As `Client.tasks`."""
        return await self._run(operations.tasks(status, limit, cursor))

    async def cancel(self, task_id: str) -> Task:
        """As `Client.cancel`."""
        return await self._run(operations.cancel(task_id))

    async def models(self) -> Models:
        """As `Client.models`."""
        return await self._run(operations.get(Models, "/api/v2/models"))

    async def health(self) -> Health:
        """As `Client.health`."""
        return await self._run(operations.get(Health, "/api/v2/health", also=operations.UNHEALTHY))

    async def config(self) -> Config:
        """As `Client.config`."""
        return await self._run(operations.get(Config, "/api/v2/config"))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, operation: Operation[T]) -> T:
        reply: Reply | Unreachable | None = None
        while True:
            try:
                step = operation.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply = await self._do(step)

    async def _do(self, step: Request | Pause) -> Reply | Unreachable | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        body = None if step.upload is None else _body(step.upload)
        try:
            return transport.reply(await self._http.send(transport.build(self._http, step, body)))
        except httpx2.RequestError as error:
            return transport.unreachable(error)


async def _body(upload: Upload) -> AsyncIterator[bytes]:
    pieces = upload.pieces()
    # A disk may be slow: files are read beside the event loop.
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        upload.sent(piece)
        yield piece
