"""The server's answers as types. Every one keeps the JSON it came from, so that newer fields can be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What all have in common. A class names the fields that it knows, with defaults for those that may be missing."""

    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The JSON object as the server gave it."""

    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """How the fields are made that are answers themselves."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From a decoded JSON object. TypeError where a field that must be there is missing."""
        known = {f.name for f in fields(cls)} - {"raw"}
        given = {name: value for name, value in data.items() if name in known and value is not None}
        return cls(**given | {name: make(given[name]) for name, make in cls._nested.items() if name in given}, raw=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Answer):
    """A completed task's answer."""

    content: str
    model_used: str
    finish_reason: str = "stop"
    """`length` where the model was cut short."""
    warnings: list[str] = field(default_factory=list)
    """Whatever the reader of the answer must know: pages not used, answer cut short."""
    file_info: Mapping[str, Any] = field(default_factory=dict)
    """`filename`, `size` in bytes, `type`."""
    processing_metadata: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    """Tokens: `prompt_tokens`, `completion_tokens`, `total_tokens`."""
    cached: bool = False
    """Whether it is the answer of an earlier task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Answer):
    """A task as the server last told it. Times are Unix seconds."""

    task_id: str
    status: str
    """`pending`, `queued`, `processing`, `completed` or `failed`."""
    progress: float = 0.0
    """Percent."""
    stage: str | None = None
    """What a running task is doing."""
    pages_done: int = 0
    pages_total: int | None = None
    """None until the document has been opened."""
    position: int | None = None
    """Of a waiting task: 1 is next."""
    estimated_time: float | None = field(default=None, compare=False)
    """Seconds until the answer, as the server reckons now."""
    waiting_reason: str | None = None
    """`slots`, `memory`, `upstream` or `paused`."""
    message: str = ""
    """What happens now, in words."""
    model: str | None = None
    file_info: Mapping[str, Any] = field(default_factory=dict)
    """`filename`, `size` in bytes, `type`. This and the model are told in lists."""
    config_applied: Mapping[str, Any] = field(default_factory=dict)
    """`model`, `temperature`, `max_tokens`; told at submission."""
    result: Result | None = None
    error: str | None = None
    error_type: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    processing_time: float | None = None
    """Seconds."""

    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"result": Result.of}

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("completed", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskList(Answer):
    """Some of one's own tasks, newest first and without their results."""

    tasks: list[Task]
    next_cursor: str | None = None
    """Asks for those that follow; None at the end."""

    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"tasks": lambda tasks: [Task.of(task) for task in tasks]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Answer):
    """A model that documents may be given to."""

    id: str
    name: str = ""
    vision_capable: bool = False
    capabilities: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models(Answer):
    """The models that the caller may use."""

    models: list[Model]
    default_model: str | None = None
    vision_models: list[str] = field(default_factory=list)
    model_configs: Mapping[str, Any] = field(default_factory=dict)

    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "models": lambda models: [Model.of(model) for model in models]
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Answer):
    """How the server is."""

    status: str
    """`healthy`, `degraded` or `unhealthy`."""
    version: str = ""
    timestamp: float = 0.0
    services: Mapping[str, bool] = field(default_factory=dict)
    memory_usage: Mapping[str, float] = field(default_factory=dict)
    """`used_percent`, `available_mb`, `total_mb`."""
    active_tasks: int = 0
    queue_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Answer):
    """The configuration in force."""

    enabled: bool
    max_file_size: int
    """Bytes."""
    max_concurrent: int
    timeout: float
    """Seconds."""
    admin_model: str = ""
    supported_formats: list[str] = field(default_factory=list)
    """File name extensions."""
    features: Mapping[str, bool] = field(default_factory=dict)
