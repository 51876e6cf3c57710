"""The parts of the runtime configuration: the types of its values, and the objects that it consists of."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from docv2.documents import EXTENSIONS

MOST_TOKENS = 1_000_000
"""Beyond what any model writes; keeps the number within what every endpoint can read."""
LEAST_CONTEXT, MOST_CONTEXT = 1000, 100_000_000
LONGEST_SECONDS = 30 * 86400.0
PLACEHOLDER = "{prompt}"
MEBIBYTE = 1024**2
MOST_BYTES = 1024**4


def _extension(value: object) -> object:
    return value.strip().lower().removeprefix(".") if isinstance(value, str) else value


def sorted_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """Each value once, in order."""
    return tuple(dict.fromkeys(values))


def with_placeholder(template: str) -> str:
    """The template; ValueError where there is no place in it for the prompt."""
    if PLACEHOLDER not in template:
        raise ValueError(f"must contain {PLACEHOLDER}")
    return template


def _known_format(name: str) -> str:
    if name not in EXTENSIONS:
        raise ValueError(f"must be one of {', '.join(EXTENSIONS)}")
    return name


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Email = Annotated[Text, AfterValidator(str.casefold)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f]*[^\s\x00-\x1f][^\x00-\x1f]*$")
]
"""Of a model, for people and for programs."""
Extension = Annotated[
    str,
    BeforeValidator(_extension),
    StringConstraints(pattern=r"^[a-z0-9_]{1,20}$"),
    WithJsonSchema({"type": "string", "pattern": r"^\.?[A-Za-z0-9_]{1,20}$"}),
]
Format = Annotated[
    str,
    BeforeValidator(_extension),
    AfterValidator(_known_format),
    WithJsonSchema({"type": "string", "enum": [*EXTENSIONS]}),
]
Percent = Annotated[float, Field(gt=0, le=100)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Context = Annotated[int, Field(ge=LEAST_CONTEXT, le=MOST_CONTEXT)]
Number = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Part(BaseModel):
    """Of the configuration."""

    # Strict: 8 is a number and "8" is none, true is neither.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class MemoryManagement(Part):
    """What is done about memory."""

    cleanup_after_processing: bool = Field(
        default=True,
        description="Remove the files of a completed task at once; else they stay as long as the task is kept.",
    )
    monitor_usage: bool = Field(
        default=True,
        description="Watch the memory and hold tasks back when it is short. Off: nothing protects the machine.",
    )
    warning_threshold: Percent = Field(default=85.0, description="Percent in use at which only half of the pool works.")
    hold_threshold: Percent = Field(default=90.0, description="Percent in use at which no task starts.")
    emergency_stop_threshold: Percent = Field(
        default=95.0, description="Percent in use at which documents are refused."
    )

    @model_validator(mode="after")
    def _ascending(self) -> MemoryManagement:
        if not self.warning_threshold <= self.hold_threshold <= self.emergency_stop_threshold:
            raise ValueError("warning_threshold, hold_threshold and emergency_stop_threshold must not descend")
        return self


class RateLimits(Part):
    """Documents that one user may send in any span of so long."""

    per_minute: Number = Field(default=50, description="Documents in any minute.")
    per_hour: Number = Field(default=1000, description="Documents in any hour.")
    per_day: Number = Field(default=10_000, description="Documents in any 24 hours.")


class UserLimits(Part):
    """What holds for one user instead."""

    per_minute: Number | None = Field(default=None, description="Documents in any minute.")
    per_hour: Number | None = Field(default=None, description="Documents in any hour.")
    per_day: Number | None = Field(default=None, description="Documents in any 24 hours.")
    max_waiting: Number | None = Field(default=None, description="Tasks that may wait at a time.")


class QueueLimits(Part):
    """How many tasks may wait."""

    per_user: Number = Field(default=10_000, description="Waiting tasks of one user.")
    total: Number = Field(default=100_000, description="Waiting tasks of all users.")


class ModelCache(Part):
    """Answers that are given again to the user who asks the same of the same document."""

    enabled: bool = Field(default=False, description="Whether answers are given again.")
    ttl: Seconds = Field(default=3600.0, description="Seconds for which an answer may be given again.")


class ProcessingCache(Part):
    """Pages of documents that are kept for the user who sends the same document again."""

    enabled: bool = Field(default=False, description="Whether pages are kept, and documents not read again.")
    ttl: Seconds = Field(default=7200.0, description="Seconds for which the pages of a document are kept.")
    max_bytes: Annotated[int, Field(ge=1, le=MOST_BYTES)] = Field(
        default=1024 * MEBIBYTE, description="Bytes of pages kept; those go first that were not used for longest."
    )


class ModelConfig(Part):
    """What is said of one model; what is left out is as for all models, or as its endpoint tells."""

    temperature: Temperature | None = Field(default=None, description="Where a request names none.")
    max_tokens: Tokens | None = Field(default=None, description="Most tokens of an answer, where a request names none.")
    timeout: Seconds | None = Field(default=None, description="Seconds between two finished pages or parts.")
    name: Name | None = Field(default=None, description="For display.")
    vision: bool | None = Field(default=None, description="Whether it can see.")
    context: Context | None = Field(default=None, description="Tokens that it holds, of request and answer together.")
    fallback: Name | None = Field(
        default=None, description="Id of the model that answers where this one fails or its endpoint does."
    )
    users: Annotated[tuple[Email, ...], Field(max_length=1000), AfterValidator(sorted_once)] | None = Field(
        default=None, description="E-mail addresses of those who may use it, beside administrators. Not set: everyone."
    )
