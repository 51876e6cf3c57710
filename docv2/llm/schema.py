"""Whether a JSON Schema is one, and whether an answer fits it: the jobs of a sandboxed child.

Schemas come from callers and answers from models. Patterns and references can make either take for ever, so nothing of
this runs in the server, which names the jobs but never loads the library; and nothing is fetched, whatever a schema
refers to.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jsonschema import FormatChecker
    from jsonschema.exceptions import SchemaError, ValidationError

WORDS = 400
"""Characters of a reason."""
LOOKED_AT = 100
"""Faults of an answer among which the most telling is looked for."""


def examine(schema: str) -> Iterator[str]:
    """The job: yield what is wrong with a schema (JSON text), or nothing at all."""
    try:
        found = _wrong_with(json.loads(schema))
    except RecursionError:
        found = "it is nested too deeply"
    yield from _said(found)


def judge(schema: str, answer: str) -> Iterator[str]:
    """The job: yield why the text in the file `answer` is no JSON that fits the schema, or nothing at all."""
    from referencing.exceptions import Unresolvable

    try:
        found = _misfit(json.loads(schema), Path(answer).read_text("utf-8"))
    except RecursionError:
        found = "it is nested too deeply, or the schema refers to itself without an end"
    except Unresolvable:
        found = "the schema refers to something that it does not hold"
    yield from _said(found)


def _said(found: str) -> Iterator[str]:
    if found:
        yield found if len(found) <= WORDS else found[: WORDS - 1] + "…"


def _wrong_with(schema: dict[str, Any]) -> str:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        return _words(error)
    references = list(_references(schema))
    if outside := next((reference for reference in references if not reference.startswith("#")), None):
        return f"it refers to something outside of itself: {outside}"
    has_ids = '"$id"' in json.dumps(schema)  # then a reference is read from there, and not from the root
    resolver = Registry().with_resource("", Resource.from_contents(schema, DRAFT202012)).resolver()
    for reference in [] if has_ids else references:
        try:
            resolver.lookup(reference)
        except Unresolvable:
            return f"it refers to something that it does not hold: {reference}"
    return ""


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(item, str):
                yield item
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _misfit(schema: dict[str, Any], answer: str) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Readers differ in which of the two they take.
        if len(found := dict(pairs)) < len(pairs):
            [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{name!r} stands there twice")
        return found

    try:
        value = json.loads(answer, parse_constant=refuse, object_pairs_hook=unique)
    except ValueError as error:
        return f"it is not JSON: {error}"
    # A registry of its own, which retrieves nothing: by default the library would ask the network.
    kind = validator_for(schema, default=Draft202012Validator)
    validator = kind(schema, registry=Registry(), format_checker=_formats(kind.FORMAT_CHECKER.checkers))
    fault = best_match(islice(validator.iter_errors(value), LOOKED_AT))
    return _words(fault) if fault else ""


def _formats(known: Mapping[str, Any]) -> FormatChecker:
    """What the library checks by itself, and moments, for which it wants another library. Others pass."""
    from jsonschema import FormatChecker

    def is_moment(value: object) -> bool:
        """RFC 3339, which is stricter than what Python reads."""
        if not isinstance(value, str):
            return True
        return value[10:11] in ("T", "t", " ") and datetime.fromisoformat(value).tzinfo is not None

    checker = FormatChecker(())
    checker.checkers = {**known, "date-time": (is_moment, ValueError)}
    return checker


def _words(error: ValidationError | SchemaError) -> str:
    return f"{error.json_path}: {error.message}"
