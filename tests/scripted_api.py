"""A docv2 API that does as it is told, for what a real server does only when it is unwell.

async with ScriptedAPI() as api:
    api.script("POST /process", refuse(503, retry_after=1))    # one behaviour a call, in order, before the usual one
    api.states = [processing(10), completed("Forty-two.")]     # what the polls of each task see, in order
    ...
    assert api.calls[0].fields["prompt"] == "How many?"
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

KEY = "sk-scripted"
REQUEST_ID = "req_scripted"


@dataclass
class Call:
    """One request as it arrived."""

    route: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    size: int = 0
    """Bytes of the document; only `sample` of them is kept."""
    sample: bytes = b""
    task_id: str = ""


Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
State = dict[str, Any]


class ScriptedAPI:
    """The documented routes over tasks that go through `states`, one a poll; the last one stays."""

    def __init__(self) -> None:
        self.states: list[State] = [completed("The answer.")]
        self.calls: list[Call] = []
        self.tasks: dict[str, deque[State]] = {}
        self.cancelled: list[str] = []
        self.changed = asyncio.Event()
        self.hold = asyncio.Event()
        """Polls of a state that is not the last are answered at once; the last one after this is set."""
        self.hold.set()
        self._keys: dict[str, str] = {}
        self._script: dict[str, deque[Behaviour | None]] = defaultdict(deque)
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a stop, on the same port as before."""
        app = web.Application(client_max_size=1024**3)
        app.router.add_post("/api/v2/process", self._process)
        app.router.add_get("/api/v2/status/{task_id}", self._status)
        app.router.add_delete("/api/v2/tasks/{task_id}", self._cancel)
        app.router.add_get("/api/v2/models", self._models)
        app.router.add_get("/api/v2/health", self._health)
        app.router.add_get("/api/v2/config", self._config)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def script(self, route: str, *behaviours: Behaviour | None) -> None:
        """What the next calls of a route (`POST /process`) do instead of the usual; None is the usual."""
        self._script[route].extend(behaviours)

    def routes(self, route: str) -> list[Call]:
        """The calls of a route so far."""
        return [call for call in self.calls if call.route == route]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that a call changes is so."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    # -- routes -------------------------------------------------------------------------------------------------------
    async def _call(self, request: web.Request, route: str) -> tuple[Call, web.StreamResponse | None]:
        call = Call(route, request.headers, request.query, task_id=request.match_info.get("task_id", ""))
        self.calls.append(call)
        self.changed.set()
        if self._script[route] and (behave := self._script[route].popleft()) is not None:
            return call, await behave(request)
        if request.headers.get("Authorization") != f"Bearer {KEY}" and route not in ("GET /health", "GET /models"):
            return call, problem(401, "No valid key", "auth_error")
        return call, None

    async def _process(self, request: web.Request) -> web.StreamResponse:
        call, answer = await self._call(request, "POST /process")
        if answer is not None:
            return answer
        async for part in await request.multipart():
            assert not isinstance(part, web.BaseRequest)
            if part.name != "file":  # type: ignore[union-attr]
                call.fields[part.name] = await part.text()  # type: ignore[union-attr, index]
                continue
            call.filename = part.filename or ""  # type: ignore[union-attr]
            while piece := await part.read_chunk(65536):  # type: ignore[union-attr]
                call.size += len(piece)
                call.sample = call.sample or piece[:1000]
                self.changed.set()
        key = request.headers.get("Idempotency-Key", "")
        call.task_id = self._keys.setdefault(key, f"task-{len(self._keys) + 1}")
        self.tasks.setdefault(call.task_id, deque(self.states))
        self.changed.set()
        return web.json_response(
            {
                "task_id": call.task_id,
                "status": "processing",
                "message": "Document processing started",
                "config_applied": {"model": "scripted", "temperature": 0.7, "max_tokens": 8000},
                "created_at": 1.0,
            }
        )

    async def _status(self, request: web.Request) -> web.StreamResponse:
        call, answer = await self._call(request, "GET /status")
        if answer is not None:
            return answer
        states = self.tasks.get(call.task_id)
        if states is None:
            return problem(404, "Task not found", "system_error")
        if len(states) == 1:
            await self.hold.wait()
        state = states.popleft() if len(states) > 1 else states[0]
        return web.json_response({"task_id": call.task_id, "created_at": 1.0} | state)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        call, answer = await self._call(request, "DELETE /tasks")
        if answer is not None:
            return answer
        self.cancelled.append(call.task_id)
        ended = {"status": "failed", "error": "Cancelled", "error_type": "cancelled"}
        self.tasks[call.task_id] = deque([ended])
        self.changed.set()
        return web.json_response({"task_id": call.task_id, "message": "Cancelled"} | ended)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        _, answer = await self._call(request, "GET /models")
        model = {"id": "scripted", "name": "Scripted", "vision_capable": True, "capabilities": ["vision", "text"]}
        known = {"models": [model], "default_model": "scripted", "vision_models": ["scripted"], "model_configs": {}}
        return answer or web.json_response(known)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        _, answer = await self._call(request, "GET /health")
        healthy = {"status": "healthy", "version": "2.0.0", "services": {"database": True}, "queue_length": 1}
        return answer or web.json_response(healthy)

    async def _config(self, request: web.Request) -> web.StreamResponse:
        _, answer = await self._call(request, "GET /config")
        config = {"enabled": True, "max_file_size": 52428800, "max_concurrent": 6, "timeout": 300, "later": "field"}
        return answer or web.json_response(config)


# -- states -----------------------------------------------------------------------------------------------------------
def queued(position: int, estimated_time: int = 60) -> State:
    return {
        "status": "queued",
        "progress": 0.0,
        "position": position,
        "estimated_time": estimated_time,
        "waiting_reason": "slots",
        "message": "Waiting for its turn",
    }


def processing(progress: float, done: int = 1, total: int = 4) -> State:
    message = f"Reading the document: {done} of {total} pages"
    return {
        "status": "processing",
        "progress": progress,
        "stage": "reading",
        "pages_done": done,
        "pages_total": total,
        "message": message,
    }


def completed(content: str, warnings: tuple[str, ...] = ()) -> State:
    info = {"filename": "lease.pdf", "size": 8, "type": "application/pdf"}
    result = {"content": content, "model_used": "scripted", "warnings": warnings, "file_info": info}
    return {"status": "completed", "progress": 100.0, "result": result, "processing_time": 1.5}


def failed(error: str, error_type: str = "processing_error") -> State:
    return {"status": "failed", "progress": 40.0, "error": error, "error_type": error_type}


# -- behaviours -------------------------------------------------------------------------------------------------------
def problem(status: int, detail: str, error_type: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"detail": detail, "error_type": error_type, "timestamp": 1.0, "request_id": REQUEST_ID}
    return web.json_response(body, status=status, headers=headers)


def refuse(status: int, detail: str = "Not now", error_type: str = "system_error", **headers: str) -> Behaviour:
    """An error in the documented form; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def behave(request: web.Request) -> web.StreamResponse:
        return problem(status, detail, error_type, named)

    return behave


def page(status: int = 200, **headers: str) -> Behaviour:
    """A web page, as something else than docv2 sends it."""

    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<!doctype html><h1>Hello", content_type="text/html", headers=headers)

    return behave


def hang_up(request: web.Request) -> None:
    """Break the connection."""
    assert request.transport is not None
    request.transport.abort()


def lose_answer(api: ScriptedAPI) -> Behaviour:
    """Take the document, then break the connection instead of answering."""

    async def behave(request: web.Request) -> web.StreamResponse:
        api.calls.pop()
        response = await api._process(request)
        hang_up(request)
        return response

    return behave
