"""The description of the API for programs: OpenAPI 3.1, made of the table of routes and of the models they name."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

import docv2
from docv2.documents import EXTENSIONS
from docv2.errors import BadRequest, DocV2Error, Forbidden, NotFound, Unauthenticated, Unavailable
from docv2.validation import Input
from docv2.web.answers import JSON, ErrorBody
from docv2.web.route import Route
from docv2.web.state import DESCRIPTION, ROUTE_TABLE

Schema = dict[str, Any]
Schemas = dict[Any, Schema]
"""By the type that they are of."""

STATIC = Path(__file__).with_name("static")

PARTS = {"docs.css": "text/css; charset=utf-8", "docs.js": "text/javascript; charset=utf-8"}
"""What the page loads."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: load its own script, style and description, and nothing from anywhere else."""

ABOUT = """\
Upload a document with a question; get an answer that names every page it could not use.

`process` answers as soon as the document is safe. `status` tells what becomes of it; with `wait` it answers when that
changes. Whatever fails, the answer is an `ErrorBody`, and every answer has an `X-Request-ID`. Times are Unix seconds. A
field that does not apply is left out. `HEAD` is answered wherever `GET` is.\
"""

PATH_PARAMETERS: dict[str, Schema] = {
    "task_id": {
        "description": "The id that `process` answered.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "user_id": {"description": "The id of a user.", "schema": {"type": "string", "format": "uuid"}},
    "key_id": {"description": "The id of a key of that user.", "schema": {"type": "string", "minLength": 1}},
    "model_id": {
        "description": "The id of a model. A slash in it may stand as it is.",
        "schema": {"type": "string", "minLength": 1},
    },
}

TAGS = {
    "Tasks": ("/api/v2/process", "/api/v2/status", "/api/v2/tasks"),
    "Administration": ("/admin", "/api/v1/configs"),
    "Account": ("/api/v1/auths",),
    "Service": ("/",),
}
"""Groups of routes, and how the paths of each begin. The first that fits counts."""


async def document(request: web.Request) -> web.Response:
    """Describe the API to programs, in OpenAPI 3.1."""
    made = request.app[DESCRIPTION]
    if not made:  # it takes a moment, and most servers are never asked
        text = json.dumps(await asyncio.to_thread(describe, request.app[ROUTE_TABLE]), ensure_ascii=False)
        made[:] = [text.encode()]
    return web.Response(body=made[0], content_type=JSON)


async def page(_: web.Request) -> web.StreamResponse:
    """Describe the API to people."""
    return web.FileResponse(
        STATIC / "docs.html",
        headers={"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": PAGE_POLICY},
    )


async def part_of_page(request: web.Request) -> web.StreamResponse:
    """Hand out what the page loads."""
    name = request.match_info["name"]
    if name not in PARTS:
        raise NotFound("There is nothing at this address")
    return web.FileResponse(STATIC / name, headers={"Content-Type": PARTS[name]})


def describe(routes: Iterable[Route]) -> Schema:
    """All of it."""
    routes = list(routes)
    schemas, named = _schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, routes, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "docv2",
            "version": docv2.__version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in TAGS],
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": {
                "credentials": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (`sk-…`) or the token of a sign-in.",
                }
            },
            "headers": {
                "X-Request-ID": {
                    "description": "What the request is called in the server's log. One that is sent as `req_` and 1 "
                    "to 64 letters, digits, `_` or `-` is kept.",
                    "schema": {"type": "string", "pattern": "^req_[A-Za-z0-9_-]{1,64}$"},
                },
                "Retry-After": {
                    "description": "Seconds after which it makes sense to try again.",
                    "schema": {"type": "integer", "minimum": 1},
                },
                "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
            },
        },
    }


# -- operations -------------------------------------------------------------------------------------------------------
def _operation(route: Route, routes: list[Route], schemas: Schemas) -> Schema:
    summary, _, description = inspect.cleandoc(route.handler.__doc__ or "").partition("\n\n")
    operation: Schema = {
        "operationId": operation_id(route),
        "tags": [next(tag for tag, begins in TAGS.items() if route.path.startswith(begins))],
        "summary": summary.rstrip("."),
        **({"description": description} if description else {}),
        "security": [{}, {"credentials": []}] if route.public else [{"credentials": []}],
    }
    if parameters := [
        *_path_parameters(route),
        *_parameters(route.query, "query"),
        *_parameters(route.headers, "header"),
    ]:
        operation["parameters"] = parameters
    if route.json:
        operation["requestBody"] = _body(JSON, schemas[route.json])
    if route.form:
        operation["requestBody"] = _body("multipart/form-data", schemas[route.form])
        types = ", ".join(sorted(set(EXTENSIONS.values())))
        operation["requestBody"]["content"]["multipart/form-data"]["encoding"] = {"file": {"contentType": types}}
    success = _success(route, routes, schemas)
    made = {"201": {**success, "description": "Made"}} if route.creates else {}
    operation["responses"] = {"200": success, **made, **_failures(route, schemas)}
    return operation


def operation_id(route: Route) -> str:
    """The name of an operation for code that is generated from the description."""
    return route.handler.__name__


def _path_parameters(route: Route) -> Iterator[Schema]:
    for name in re.findall(r"{(\w+)}", route.path):
        yield {"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name]}


def _parameters(model: type[Input] | None, where: str) -> Iterator[Schema]:
    if model is None:
        return
    schema = _without_null(model.model_json_schema())
    for name, field in schema["properties"].items():
        description = field.pop("description")
        yield {
            "name": name,
            "in": where,
            "required": name in schema.get("required", ()),
            "description": f"{description[0].upper()}{description[1:]}.",
            "schema": field,
        }


def _body(media_type: str, schema: Schema) -> Schema:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _success(route: Route, routes: list[Route], schemas: Schemas) -> Schema:
    response: Schema = {"description": "Success", "headers": {"X-Request-ID": _header("X-Request-ID")}}
    if isinstance(route.answers, str):
        response["content"] = {route.answers: {"schema": {"type": "string"}}}
        return response
    response["content"] = {JSON: {"schema": schemas[route.answers]}}
    if links := dict(_links(route, routes)):
        response["links"] = links
    return response


def _links(route: Route, routes: list[Route]) -> Iterator[tuple[str, Schema]]:
    """What can be done with an answer: what there is to do with what it names, and the next page of a list."""
    own = {parameter["name"] for parameter in _path_parameters(route)}
    for other in routes:
        wanted = {parameter["name"] for parameter in _path_parameters(other)}
        if wanted & route.gives.keys() and wanted <= route.gives.keys() | own:
            values = {
                name: f"$response.body#{route.gives[name]}" if name in route.gives else f"$request.path.{name}"
                for name in sorted(wanted)
            }
            yield operation_id(other), {"operationId": operation_id(other), "parameters": values}
    if route.query and "cursor" in route.query.model_fields:
        yield (
            "next",
            {"operationId": operation_id(route), "parameters": {"cursor": "$response.body#/next_cursor"}},
        )


def _failures(route: Route, schemas: Schemas) -> Schema:
    kinds: list[type[DocV2Error]] = [BadRequest, Unavailable, *route.refuses]
    if not route.public:
        kinds += [Unauthenticated, Forbidden]
    by_status: dict[int, list[type[DocV2Error]]] = {}
    for kind in sorted(dict.fromkeys(kinds), key=lambda kind: kind.status):
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _failure(status, kinds, schemas) for status, kinds in by_status.items()}


def _failure(status: int, kinds: list[type[DocV2Error]], schemas: Schemas) -> Schema:
    names = ["X-Request-ID"]
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE):
        names.append("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        names.append("WWW-Authenticate")
    about = " ".join(_about(kind) for kind in kinds)
    return {
        "description": about,
        "headers": {name: _header(name) for name in names},
        "content": {JSON: {"schema": schemas[ErrorBody]}},
    }


def _about(kind: type[DocV2Error]) -> str:
    told = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return f"`{kind.error_type}`: {told}"


# -- schemas ----------------------------------------------------------------------------------------------------------
def _schemas(routes: list[Route]) -> tuple[Schemas, Schema]:
    """The schema of everything that a route names, and those that they refer to by name.

    Made in one go: that is how two classes of the same name get names of their own.
    """
    inputs = [model for route in routes for model in (route.json, route.form) if model]
    answers = [route.answers for route in routes if route.answers and not isinstance(route.answers, str)]
    wanted = [(kind, "validation") for kind in dict.fromkeys(inputs)]
    wanted += [(kind, "serialization") for kind in dict.fromkeys([*answers, ErrorBody])]
    made, common = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in wanted],  # type: ignore[misc]
        ref_template=_ref("{model}"),
    )
    named: Schema = common.get("$defs", {})
    kinds = {name: found for kind, _ in wanted for name, found in _kinds(kind)}
    for name, schema in named.items():
        _without_null(schema)
        for field, told in _field_docs(kinds.get(name)).items():
            schema["properties"][field].setdefault("description", told)
    schemas = {kind: schema for (kind, _), schema in made.items()}
    for route in routes:
        if route.form:
            _add_file(named[schemas[route.form]["$ref"].rpartition("/")[2]])
    return schemas, dict(sorted(named.items()))


def _add_file(form: Schema) -> None:
    """The one field that no model has, since it is never in memory."""
    file = {"type": "string", "format": "binary", "description": "the document, sent as a file with its name"}
    form["properties"] = {"file": file, **form["properties"]}
    form["required"] = ["file", *form.get("required", ())]


def _kinds(answer: Any) -> Iterator[tuple[str, type]]:
    """The dataclasses in an answer, by both names that their schema may have."""
    seen: set[type] = set()
    left = [answer]
    while left:
        kind = left.pop()
        left += getattr(kind, "__args__", ())
        if inspect.isclass(kind) and hasattr(kind, "__dataclass_fields__") and kind not in seen:
            seen.add(kind)
            yield kind.__name__, kind
            yield f"{kind.__module__}.{kind.__name__}".replace(".", "__"), kind
            left += inspect.get_annotations(kind, eval_str=True).values()


def _field_docs(kind: type | None) -> dict[str, str]:
    """The texts below the fields of a dataclass: what they are is said once, where they are defined."""
    if kind is None:
        return {}
    (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(parsed, ast.ClassDef)
    docs = {}
    for field, told in zip(parsed.body, parsed.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match told:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    docs[field.target.id] = " ".join(text.split())
    return docs


def _without_null(schema: Schema) -> Schema:
    """Say of fields that may be None what is true on the wire: they are left out."""
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if field.get("default", ...) is None:
            del field["default"]
        options = field.get("anyOf", [])
        if {"type": "null"} in options:
            rest = [option for option in options if option != {"type": "null"}]
            del field["anyOf"]
            field.update(rest[0] if len(rest) == 1 else {"anyOf": rest})
            if name in schema.get("required", ()):
                schema["required"].remove(name)
    schema.pop("title", None)
    return schema


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _header(name: str) -> Mapping[str, str]:
    return {"$ref": f"#/components/headers/{name}"}
