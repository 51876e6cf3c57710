"""Answers in a form: what a caller may want of them, and whether one fits.

What is wanted is said as OpenAI's `response_format` says it. Endpoints differ in what they make of it, so every answer
is held against the schema here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from docv2.errors import BadRequest, DocumentError, InvalidValue, OverLimit, ParserDied, Unavailable
from docv2.llm.schema import examine, judge
from docv2.sandbox import Sandbox
from docv2.tasks import JSONObject

NEEDS = ("jsonschema",)
"""What both jobs load besides."""
CHECK_SECONDS = 5
"""For looking at a schema, or at an answer; both take milliseconds unless somebody means harm."""
AT_ONCE = 4
"""Schemas of new tasks that are looked at together; whoever comes beyond waits."""
DEEPEST = 64
"""Levels of a schema; more is nobody's."""


class JSONSchema(BaseModel):
    """A named JSON Schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class SchemaForm(BaseModel):
    """One JSON value that fits a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_schema"]
    json_schema: JSONSchema


class ObjectForm(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_object"]


class TextForm(BaseModel):
    """Any words, as without a form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]


_FORM: TypeAdapter[SchemaForm | ObjectForm | TextForm] = TypeAdapter(
    Annotated[SchemaForm | ObjectForm | TextForm, Field(discriminator="type")]
)


def read_form(text: str) -> JSONObject | None:
    """A `response_format` as its sender wrote it; None for words. BadRequest where unreadable, else InvalidValue."""
    try:
        value = json.loads(text, parse_constant=lambda constant: constant)
        too_deep = _depth(value) > DEEPEST
    except (ValueError, RecursionError):
        raise BadRequest("response_format must be JSON") from None
    if too_deep:
        raise InvalidValue(f"response_format must not be nested deeper than {DEEPEST} levels")
    try:
        form = _FORM.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][1:])) or "response_format"
        raise InvalidValue(
            f'response_format must be {{"type": "json_schema", "json_schema": {{"name", "schema"}}}}, '
            f'{{"type": "json_object"}} or {{"type": "text"}}; {where}: {first["msg"]}'
        ) from None
    return None if isinstance(form, TextForm) else form.model_dump(by_alias=True, exclude_none=True)


def _depth(value: object) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, children), default=0)


def schema_text(form: JSONObject | None) -> str:
    """The schema that an answer must fit, as text; empty where any words will do."""
    if form is None:
        return ""
    schema = form["json_schema"]["schema"] if form["type"] == "json_schema" else {"type": "object"}
    return json.dumps(schema, ensure_ascii=False)


def bare(content: str) -> str:
    """An answer without the fence of Markdown that models like to put around JSON."""
    content = content.strip()
    if content.startswith("```") and content.endswith("```") and "\n" in content:
        return content.partition("\n")[2].removesuffix("```").strip()
    return content


class FormCheck:
    """Looks at schemas and answers in children of the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def schema(self, form: JSONObject) -> None:
        """InvalidValue where the schema of a form is none, or takes too long to look at."""
        if form["type"] != "json_schema":
            return
        try:
            async with self._slots:
                examined = self._sandbox.run(
                    examine, schema_text(form), owner="schema", needs=NEEDS, seconds=CHECK_SECONDS
                )
                said = await _last(examined)
        except OverLimit:
            said = "it takes too long to look at"
        except DocumentError:
            said = "it cannot be read"
        except ParserDied as error:
            raise Unavailable("The schema cannot be looked at now") from error
        if said:
            raise InvalidValue(f"The schema in response_format cannot be used: {said}")

    async def misfit(self, form: JSONObject, content: str, folder: Path, *, owner: str) -> str:
        """Why an answer does not fit its form; empty where it does. ParserDied where the child died.

        The words may quote the answer. `folder` holds it meanwhile.
        """
        path = folder / "answer.json"
        await asyncio.to_thread(path.write_text, content, "utf-8")
        try:
            return await _last(
                self._sandbox.run(judge, schema_text(form), str(path), owner=owner, needs=NEEDS, seconds=CHECK_SECONDS)
            )
        except OverLimit:
            return "it takes too long to hold against the schema"
        except DocumentError:
            return "it cannot be held against the schema"
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)


async def _last(said: AsyncGenerator[Any, None]) -> str:
    words = ""
    async with aclosing(said):
        async for item in said:
            words = "".join(char for char in str(item) if char.isprintable())
    return words
