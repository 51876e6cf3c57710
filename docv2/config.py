"""What administrators change while docv2 runs: one schema for its validation, its documentation and its forms.

A value set at run time wins over the environment, the environment over the default. Everyone reads the configuration
anew where they need it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError, model_validator

from docv2.configparts import (
    MEBIBYTE,
    MOST_BYTES,
    PLACEHOLDER,
    Email,
    Extension,
    Format,
    MemoryManagement,
    ModelCache,
    ModelConfig,
    Name,
    Part,
    ProcessingCache,
    QueueLimits,
    RateLimits,
    Seconds,
    Temperature,
    Text,
    Tokens,
    UserLimits,
    sorted_once,
    with_placeholder,
)
from docv2.errors import BadRequest, Conflict, InvalidValue, NotFound, StartError
from docv2.settings import Settings
from docv2.store.base import Configuration, Limits, Store, User
from docv2.tasks import JSONObject

log = logging.getLogger(__name__)

CHANGE_TRIES = 5
"""Of several who change at once one is first; the others look again."""

DEFAULT_TEMPERATURE = 0.7
DEFAULT_MAX_TOKENS = 8000
MOST_PROBLEMS = 5
"""Told in one refusal."""


class Config(Part):
    """One consistent set of values."""

    enabled: bool = Field(
        default=True, description="Whether documents are accepted. What waits is worked on all the same."
    )
    paused: bool = Field(
        default=False, description="Whether the queue stands still: documents are accepted, no task starts."
    )
    max_file_size: Annotated[int, Field(ge=1, le=MOST_BYTES)] = Field(
        default=50 * MEBIBYTE,
        description="Largest document in bytes. In MiB as `max_file_size_mb`, which is the same setting.",
    )
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Tasks worked on at once; where nothing sets it, from the memory: 1 below 16 GB to 30."
    )
    timeout: Seconds = Field(
        default=300.0, description="Seconds that a task may take since it last finished a page or a part."
    )
    max_task_seconds: Seconds = Field(default=6 * 3600.0, description="Seconds that a task may run in all.")
    admin_model: Text = Field(
        default="", description="Default model. Empty: gpt-4-vision if listed, else the first that can see."
    )
    temperature: Temperature = Field(
        default=DEFAULT_TEMPERATURE, description="Where neither request nor model names one."
    )
    max_tokens: Tokens = Field(
        default=DEFAULT_MAX_TOKENS, description="Most tokens of an answer, where neither request nor model names them."
    )
    enable_vision: bool = Field(
        default=True, description="Whether pictures are sent. Off: pages without text are named as unread."
    )
    enable_multimodal: bool = Field(
        default=True, description="Whether a page may be sent as text and as a picture at once."
    )
    default_prompt_template: Annotated[
        str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$"), AfterValidator(with_placeholder)
    ] = Field(
        default=PLACEHOLDER,
        description="What a model is asked; `{prompt}` stands for the prompt, whatever is in it.",
        json_schema_extra={"pattern": r"^[^\x00]*\{prompt\}[^\x00]*$"},
    )
    supported_formats: Annotated[tuple[Format, ...], Field(min_length=1), AfterValidator(sorted_once)] = Field(
        default=("pdf", "docx", "txt", "md", "png", "jpg", "jpeg", "gif"), description="Types that are accepted."
    )
    blocked_extensions: Annotated[tuple[Extension, ...], Field(max_length=1000), AfterValidator(sorted_once)] = Field(
        default=(), description="Extensions that are refused, whatever else is accepted."
    )
    memory_management: MemoryManagement = Field(default=MemoryManagement(), description="What is done about memory.")
    rate_limits: RateLimits = Field(default=RateLimits(), description="Documents that one user may send.")
    queue_limits: QueueLimits = Field(default=QueueLimits(), description="How many tasks may wait.")
    user_limits: Annotated[dict[Email, UserLimits], Field(max_length=10_000)] = Field(
        default={}, description="What holds for a user instead, by e-mail address."
    )
    model_configs: Annotated[dict[Name, ModelConfig], Field(max_length=10_000)] = Field(
        default={},
        description="What is said of a model, by its id. One that no endpoint lists is asked for at the first.",
    )
    model_cache: ModelCache = Field(
        default=ModelCache(), description="Answers that are given again to the user who asks the same."
    )
    processing_cache: ProcessingCache = Field(
        default=ProcessingCache(), description="Pages that are kept for the user who sends the same document."
    )
    retention_hours: Annotated[float, Field(gt=0, le=100 * 366 * 24)] = Field(
        default=24.0, description="Hours until an ended task is removed."
    )

    def model(self, model_id: str) -> ModelConfig:
        """What is said of a model."""
        return self.model_configs.get(model_id, NOTHING_SAID)

    def step_seconds(self, model_id: str) -> float:
        """Seconds that a step of a task may take with a model."""
        return self.model(model_id).timeout or self.timeout

    def permits(self, user: User | None, model_id: str) -> bool:
        """Whether a user, or with None anybody at all, may use a model."""
        only = self.model(model_id).users
        return only is None or (user is not None and (user.is_admin or user.email.casefold() in only))

    def limits(self, email: str) -> Limits:
        """What this user may send."""
        own = self.user_limits.get(email.casefold(), NO_LIMITS)
        rates = self.rate_limits
        return Limits(
            windows=(
                (60.0, own.per_minute or rates.per_minute),
                (3600.0, own.per_hour or rates.per_hour),
                (86400.0, own.per_day or rates.per_day),
            ),
            waiting_of_user=own.max_waiting or self.queue_limits.per_user,
            waiting=self.queue_limits.total,
        )

    def asked(self, prompt: str) -> str:
        """What a model is asked where a user asked `prompt`: literally replaced, for prompts hold braces."""
        return self.default_prompt_template.replace(PLACEHOLDER, prompt)

    @model_validator(mode="after")
    def _no_model_for_itself(self) -> Config:
        for model_id, said in self.model_configs.items():
            if said.fallback == model_id:
                raise ValueError(f"the fallback of the model {model_id} must be another one")
        return self


NOTHING_SAID = ModelConfig()
NO_LIMITS = UserLimits()


VARIABLES_OF = {
    "memory_management": {
        "warning_threshold": "memory_warning",
        "hold_threshold": "memory_hold",
        "emergency_stop_threshold": "memory_critical",
    },
    "model_cache": {"enabled": "enable_model_cache", "ttl": "model_cache_ttl"},
    "processing_cache": {"enabled": "enable_processing_cache", "ttl": "processing_cache_ttl"},
}
"""The parts of which some settings have a variable of their own: which setting, which field of the process settings."""


def from_settings(settings: Settings, *, total_memory: int, cores: int | None = None) -> Config:
    """The values in force before an administrator changed any: defaults, and over them the environment.

    `total_memory` in bytes. StartError where API_V2_ADMIN_CONFIG is wrong. A variable of its own wins over the same key
    in there.
    """
    given = settings.model_fields_set
    values: JSONObject = {
        "max_concurrent": automatic_concurrency(total_memory, cores if settings.limit_by_cores else None)
    }
    values = merged(values, normalized(settings.admin_config, wrong=_wrong_environment))
    own: JSONObject = {
        name: getattr(settings, name)
        for name in ("enabled", "max_file_size", "timeout", "admin_model", "max_task_seconds", "retention_hours")
        if name in given
    }
    if settings.max_concurrent is not None:
        own["max_concurrent"] = settings.max_concurrent
    for part, names in VARIABLES_OF.items():
        own[part] = {key: getattr(settings, name) for key, name in names.items() if name in given}
    return validated(merged(values, own), wrong=_wrong_environment)


def _wrong_environment(problems: Sequence[str], *, unknown: bool) -> Exception:
    del unknown
    return StartError(f"API_V2_ADMIN_CONFIG: {'; '.join(problems)}")


def _wrong_request(problems: Sequence[str], *, unknown: bool) -> Exception:
    return (BadRequest if unknown else InvalidValue)("; ".join(problems))


def automatic_concurrency(total_memory: int, cores: int | None = None) -> int:
    """Tasks at once for a memory of so many bytes: 1 below 16 GB, 3 a 16 GB, at most 30.

    520 MB a task within 70 % of the memory bounds it as well, and two for each of `cores` where they are given.
    """
    gigabytes = -(-total_memory // 1024**3)
    by_memory = 1 if gigabytes < 16 else int(min(30, gigabytes * 3 / 16, gigabytes * 1024 * 0.7 / 520))
    return by_memory if cores is None else max(1, min(by_memory, 2 * cores))


# -- changes ----------------------------------------------------------------------------------------------------------
def normalized(changes: JSONObject, *, wrong: Any = _wrong_request) -> JSONObject:
    """Changes with one name for each setting: `max_file_size_mb` is `max_file_size`."""
    if "max_file_size_mb" not in changes:
        return changes
    rest = {name: value for name, value in changes.items() if name != "max_file_size_mb"}
    mebibytes = changes["max_file_size_mb"]
    size: Any = None
    if mebibytes is not None:
        is_number = isinstance(mebibytes, int | float) and not isinstance(mebibytes, bool)
        if not is_number or not 0 < mebibytes <= MOST_BYTES / MEBIBYTE:
            raise wrong(["max_file_size_mb must be a number above 0"], unknown=False)
        size = round(mebibytes * MEBIBYTE)
    if rest.get("max_file_size", size) != size:
        raise wrong(["max_file_size and max_file_size_mb are one setting and say different things"], unknown=False)
    return {**rest, "max_file_size": size}


def merged(values: JSONObject, changes: JSONObject) -> JSONObject:
    """Changes over values, objects within objects likewise (RFC 7396): null takes a value away."""
    result = dict(values)
    for name, change in changes.items():
        if change is None:
            result.pop(name, None)
        elif isinstance(change, dict):
            below = result.get(name)
            result[name] = merged(below if isinstance(below, dict) else {}, change)
        else:
            result[name] = change
    return result


def validated(values: JSONObject, *, wrong: Any = _wrong_request) -> Config:
    """The configuration that the values make; else every reason why they make none, in one error.

    BadRequest where a name is unknown, InvalidValue for any other fault.
    """
    try:
        # As JSON, in which a list may be what is a tuple here, though no number may be text.
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        told = list(dict.fromkeys(_told(fault) for fault in faults))
        more = [f"and {len(told) - MOST_PROBLEMS} more"] if len(told) > MOST_PROBLEMS else []
        unknown = any(fault["type"] == "extra_forbidden" for fault in faults)
        raise wrong([*told[:MOST_PROBLEMS], *more], unknown=unknown) from None


def _told(fault: Mapping[str, Any]) -> str:
    path = ".".join(str(step) for step in fault["loc"] if step != "[key]")[:200]
    if fault["type"] == "extra_forbidden":
        return f"unknown setting {path}; known are: {', '.join(_siblings(fault['loc']))}"
    reason = fault.get("ctx", {}).get("error")
    said = str(reason) if isinstance(reason, ValueError) else fault["msg"].replace("Input should be", "must be")
    return f"{path} {said}".replace("a valid ", "a ").strip()


def _siblings(path: Sequence[int | str]) -> list[str]:
    """The names that would be known where this one is not."""
    part: type[BaseModel] = Config
    for step in path[:-1]:
        if field := part.model_fields.get(str(step)):
            part = _part_of(field.annotation) or part
    return [*part.model_fields, *(["max_file_size_mb"] if part is Config else [])]


def _part_of(kind: Any) -> type[BaseModel] | None:
    """The part that a field holds, or of which it holds several by name; None for a plain value."""
    for held in (kind, *get_args(kind)):
        if isinstance(held, type) and issubclass(held, BaseModel):
            return held
    return None


class RuntimeConfig:
    """The set that is in force, and how it comes to change."""

    def __init__(self, base: Config, store: Store | None = None) -> None:
        """`base`: what holds where nothing was set at run time."""
        self.current = base
        self.latest = Configuration(0, 0.0, "", {}, {})
        self.on_change: list[Callable[[Config], None]] = []
        """Called with each set that comes into force, for those who keep something of it."""
        self._base: JSONObject = base.model_dump(mode="json")
        self._store = store

    async def load(self) -> None:
        """Take up what was set in earlier runs; StartError where it does not go together with the environment."""

        def wrong(problems: Sequence[str], *, unknown: bool) -> Exception:
            del unknown
            why = "; ".join(problems)
            return StartError(f"version {version} of the runtime configuration does not fit this environment: {why}")

        for latest in await self._kept.configurations():
            version = latest.version
            self._apply(latest, validated(merged(self._base, latest.overrides), wrong=wrong))

    async def change(self, changes: JSONObject, *, by: str) -> Configuration:
        """Change some settings, all of them or none; null goes back to the environment or the default.

        BadRequest for a name that is unknown, InvalidValue for a value that is not allowed.
        """
        changes = normalized(changes)
        return await self._keep(lambda before: (changes, merged(before.overrides, changes)), by)

    async def replace(self, overrides: JSONObject, *, by: str) -> Configuration:
        """Set these and nothing else at run time."""
        overrides = merged({}, normalized(overrides))
        return await self._keep(lambda _: (overrides, overrides), by)

    async def take_back(self, model_id: str, *, by: str) -> Configuration:
        """Take back what is said of a model. NotFound where nothing is, Conflict where the environment says it."""
        if model_id not in self.current.model_configs:
            raise NotFound("Nothing is said of such a model")
        if model_id not in self.latest.overrides.get("model_configs", {}):
            raise Conflict("This is said in API_V2_ADMIN_CONFIG; take it back there")
        return await self.change({"model_configs": {model_id: None}}, by=by)

    async def revert(self, version: int, *, by: str) -> Configuration:
        """Make a new version that is as an earlier one was; 0 is as before the first. NotFound where there was none."""
        found = [Configuration(0, 0.0, "", {}, {})] if version == 0 else await self.versions(up_to=version, limit=1)
        if not found or found[0].version != version:
            raise NotFound(f"There is no version {version} of the configuration")
        earlier = found[0].overrides
        return await self._keep(lambda _: ({"revert": version}, earlier), by)

    async def versions(self, *, up_to: int | None, limit: int) -> list[Configuration]:
        """What was in force, the latest first."""
        return await self._kept.configurations(up_to=up_to, limit=limit)

    async def take_up(self) -> None:
        """Bring into force what another process, such as the command line, has changed since."""
        for latest in await self._kept.configurations():
            if latest.version > self.latest.version:
                self._apply(latest, validated(merged(self._base, latest.overrides)))

    @property
    def _kept(self) -> Store:
        assert self._store is not None
        return self._store

    async def _keep(self, make: Callable[[Configuration], tuple[JSONObject, JSONObject]], by: str) -> Configuration:
        for _ in range(CHANGE_TRIES):
            before = next(iter(await self._kept.configurations()), Configuration(0, 0.0, "", {}, {}))
            changes, overrides = make(before)
            config = validated(merged(self._base, overrides))
            new = Configuration(before.version + 1, time.time(), by, changes, overrides)
            try:
                await self._kept.add_configuration(new)
            except Conflict:
                continue
            self._apply(new, config)
            return new
        raise Conflict("The configuration is being changed by others; try again")

    def _apply(self, latest: Configuration, config: Config) -> None:
        if latest.version <= self.latest.version:  # somebody else's, later than this one, came first
            return
        self.latest, self.current = latest, config
        log.info("configuration %d is in force", latest.version, extra={"changed_by": latest.changed_by})
        for listener in self.on_change:
            listener(config)


# -- documentation ----------------------------------------------------------------------------------------------------
def described() -> Iterator[tuple[str, str, str]]:
    """Every setting: its path, its default as JSON, what it does."""
    yield from _described("", Config)


def _described(prefix: str, part: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in part.model_fields.items():
        below = _part_of(field.annotation)
        several = below is not field.annotation
        if several:
            yield prefix + name, json.dumps(field.default), field.description or ""
        if below is not None:
            yield from _described(f"{prefix}{name}.{'<…>.' if several else ''}", below)
