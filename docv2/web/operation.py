"""The administrators' routes about the work: everyone's tasks, the queue, how the server is doing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, cast

from aiohttp import web
from pydantic import Field, StringConstraints

import docv2
from docv2.intake import Listing
from docv2.views import MemoryUsage, TaskList, TaskSummary, memory_usage
from docv2.web.answers import answer
from docv2.web.audit import concerns
from docv2.web.state import QUERY, SERVICES, USER


class AllTasks(Listing):
    """Which of everyone's tasks to list."""

    user_id: Annotated[str, StringConstraints(max_length=100)] | None = Field(None, description="the id of a user")


@dataclass(frozen=True, slots=True)
class WaitingBody:
    """Tasks of one model and type that wait."""

    model: str
    type: str
    tasks: int


@dataclass(frozen=True, slots=True)
class QueueBody:
    """The queue."""

    paused: bool
    """Whether no task starts until it is resumed."""
    waiting: int
    running: int
    slots: int
    """Tasks that may run at once now, as memory allows."""
    blocked_models: tuple[str, ...]
    """Models whose endpoint is failing; their tasks wait."""
    waiting_by_model: tuple[WaitingBody, ...]


@dataclass(frozen=True, slots=True)
class RunningBody:
    """A task that is worked on."""

    task_id: str
    user_id: str
    model: str
    running_seconds: float


@dataclass(frozen=True, slots=True)
class ServerModel:
    """A model that is listed."""

    id: str
    endpoint: str
    blocked: bool


@dataclass(frozen=True, slots=True)
class StatusBody:
    """How the server is doing."""

    version: str
    timestamp: float
    queue: QueueBody
    running: tuple[RunningBody, ...]
    memory_usage: MemoryUsage
    memory_level: str
    """`normal`, `warning`, `hold` or `critical`."""
    draining: bool
    enabled: bool
    configuration_version: int
    models: tuple[ServerModel, ...]


async def list_all_tasks(request: web.Request) -> web.Response:
    """Everyone's tasks, newest first, page by page."""
    wanted = cast("AllTasks", request[QUERY])
    listed: TaskList = await request.app[SERVICES].intake.all_tasks(wanted, user_id=wanted.user_id)
    return answer(listed)


async def retry_task(request: web.Request) -> web.Response:
    """Put a failed task at the tail of the queue. What was read and answered of it is kept."""
    retried: TaskSummary = await request.app[SERVICES].intake.retry(request.match_info["task_id"])
    return answer(retried)


async def show_queue(request: web.Request) -> web.Response:
    """What waits, and whether it may start."""
    return answer(await _queue(request))


async def pause_queue(request: web.Request) -> web.Response:
    """Start no task until the queue is resumed. Documents are accepted; what runs goes on. Outlives a restart."""
    await _pause(request, paused=True)
    return answer(await _queue(request))


async def resume_queue(request: web.Request) -> web.Response:
    """Let tasks start again."""
    await _pause(request, paused=False)
    return answer(await _queue(request))


async def clear_caches(request: web.Request) -> web.Response:
    """Remove what the caches of all users hold. Tasks keep their answers."""
    return answer(await request.app[SERVICES].removal.clear_caches())


async def show_server(request: web.Request) -> web.Response:
    """How the server is doing."""
    services = request.app[SERVICES]
    now, blocked = time.time(), services.health.blocked_models()
    return answer(
        StatusBody(
            version=docv2.__version__,
            timestamp=now,
            queue=await _queue(request),
            running=tuple(
                RunningBody(task.task_id, task.user_id, task.model, round(now - (task.claimed_at or now), 1))
                for task in services.pool.running()
            ),
            memory_usage=memory_usage(services.gate.memory),
            memory_level=services.gate.level.name.lower(),
            draining=services.pool.draining,
            enabled=services.config.current.enabled,
            configuration_version=services.config.latest.version,
            models=tuple(
                ServerModel(model.id, model.endpoint, model.id in blocked) for model in services.catalog.models()
            ),
        )
    )


async def _pause(request: web.Request, *, paused: bool) -> None:
    changed = await request.app[SERVICES].config.change({"paused": paused}, by=request[USER].email)
    concerns(request, version=changed.version)


async def _queue(request: web.Request) -> QueueBody:
    services = request.app[SERVICES]
    depth = await services.store.depth()
    return QueueBody(
        paused=services.config.current.paused,
        waiting=depth.waiting,
        running=depth.running,
        slots=0 if services.config.current.paused else services.pool.slots(),
        blocked_models=tuple(sorted(services.health.blocked_models())),
        waiting_by_model=tuple(
            WaitingBody(work.model, work.media_type, work.tasks) for work in await services.store.backlog()
        ),
    )
