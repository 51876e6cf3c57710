"""Values as people send them, in forms, queries and JSON, checked against a model; and what is said where they fail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from docv2.errors import BadRequest, InvalidValue


class Input(BaseModel):
    """What a caller sends. The description of a field completes "must be …"."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: object) -> object:
        """A field that does not apply is left out: null may mean one thing to its sender and another to us."""
        if value is None:
            raise PydanticCustomError("unreadable", "null")
        return value


M = TypeVar("M", bound=Input)

_NOT_ALLOWED = frozenset(
    {
        "enum",
        "greater_than",
        "greater_than_equal",
        "less_than_equal",
        "literal_error",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "too_long",
    }
)
"""What pydantic calls values that can be read and are not allowed."""

SHOWN = 40
"""Characters of an unknown name that are repeated to its sender."""


def _plain_number(value: object) -> object:
    """Python reads more as a number than people write: `1_000`, `Infinity`, digits of every script."""
    if isinstance(value, str) and not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value.strip(), re.ASCII):
        raise PydanticCustomError("unreadable", "not a number")
    return value


PLAIN_NUMBER = BeforeValidator(_plain_number)
"""The last of its annotations: of bounds that stand behind it, the JSON Schema knows nothing."""


def _plain_boolean(value: object) -> object:
    """Likewise `on`, `y` and 1."""
    if isinstance(value, str) and value.strip().lower() not in ("true", "false"):
        raise PydanticCustomError("unreadable", "not true or false")
    return value.strip() if isinstance(value, str) else value


PLAIN_BOOLEAN = BeforeValidator(_plain_boolean)


def checked(model: type[M], values: Mapping[str, Any]) -> M:
    """The values as the model has them.

    BadRequest where one is missing, unknown or unreadable, InvalidValue where one can be read and is not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise BadRequest(f"The field {name} is missing") from None
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise unknown(name, fields) from None
        kind = InvalidValue if first["type"] in _NOT_ALLOWED else BadRequest
        raise kind(f"{name} must be {fields[name].description}") from None


def unknown(name: str, known: Mapping[str, object]) -> BadRequest:
    """The refusal of a name that nobody knows: a misspelt one that is silently ignored costs more."""
    shown = repr(name if len(name) <= SHOWN else name[:SHOWN] + "…")
    return BadRequest(f"Unknown name {shown}; known are: {', '.join(known) or 'none'}")
