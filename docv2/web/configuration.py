"""The administrators' routes about the runtime configuration: look, change, go back, take a copy and bring it back."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field, RootModel, SecretStr

import docv2
from docv2.config import Config
from docv2.configparts import MEBIBYTE, MOST_BYTES
from docv2.settings import Settings, env_names
from docv2.store.base import Configuration
from docv2.tasks import JSONObject
from docv2.validation import PLAIN_NUMBER, Input
from docv2.web.answers import answer
from docv2.web.audit import concerns
from docv2.web.inputs import json_of
from docv2.web.state import QUERY, SERVICES, USER

if TYPE_CHECKING:
    from docv2.bootstrap import Services

CONFIG_BYTES = 1024 * 1024
"""Of a whole configuration: thousands of models and users."""
MASK = "********"
LISTED = 50
MOST_VERSION = 2**53
"""The largest whole number that every reader of JSON has."""


def _as_changes(schema: JSONObject) -> None:
    whole = Config.model_json_schema()
    changes = _changes_to(whole, whole["$defs"])
    mebibytes = {"type": "number", "minimum": 1 / MEBIBYTE, "maximum": MOST_BYTES // MEBIBYTE}
    changes["properties"]["max_file_size_mb"] = _or_null({**mebibytes, "description": "`max_file_size` in MiB."})
    changes["not"] = {"required": ["max_file_size", "max_file_size_mb"]}
    schema.clear()
    schema.update(changes, description=inspect.cleandoc(Changes.__doc__ or ""))


def _changes_to(schema: JSONObject, parts: JSONObject) -> JSONObject:
    """The schema of changes to what a schema describes: whatever is left out stays, and null takes a value away."""
    schema = parts[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    changes = {name: value for name, value in schema.items() if name not in ("title", "default", "$defs")}
    for group in ("properties", "patternProperties"):
        if group in schema:
            changes["additionalProperties"] = False
            changes[group] = {name: _or_null(_changes_to(one, parts)) for name, one in schema[group].items()}
    return changes


def _or_null(schema: JSONObject) -> JSONObject:
    [kind] = [option for option in schema.pop("anyOf", [{}]) if option != {"type": "null"}]
    return {**schema, **kind, "type": [{**schema, **kind}["type"], "null"]}


class Changes(RootModel[JSONObject]):
    """Settings to change. What is left out stays; null goes back to the environment or the default."""

    model_config = ConfigDict(json_schema_extra=_as_changes)


class Change(Input):
    """Settings to change."""

    api_v2: Changes = Field(description="an object of settings")


class Revert(Input):
    """Which state to go back to."""

    version: Annotated[int, Field(strict=True, ge=0, le=MOST_VERSION)] = Field(
        description="the number of a version; 0: nothing set"
    )


class Import(Input):
    """A copy as GET /api/v1/configs gave it; of it only `api_v2` is taken."""

    api_v2: Changes = Field(description="an object of settings")
    version: str = Field("", description="the version of docv2 that made the copy")
    environment: dict[str, Any] = Field({}, description="an object of variables, which is for reading only")


class Versions(Input):
    """Which versions to list."""

    up_to: Annotated[int, Field(ge=1, le=MOST_VERSION), PLAIN_NUMBER] | None = Field(
        None, description="the number of the latest version to list"
    )
    limit: Annotated[int, Field(ge=1, le=LISTED), PLAIN_NUMBER] = Field(
        20, description=f"a whole number from 1 to {LISTED}"
    )


@dataclass(frozen=True, slots=True)
class ConfigurationBody:
    """The configuration in force."""

    api_v2: Config
    overrides: JSONObject
    """What of it was set at run time; the rest is the environment's or the default."""
    version: int
    """0 where nothing was ever set at run time."""
    changed_at: float
    changed_by: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigurationVersion:
    """One state of what was set at run time."""

    version: int
    changed_at: float
    changed_by: str
    changes: JSONObject
    """What was asked for."""
    overrides: JSONObject
    """All that was set afterwards."""


@dataclass(frozen=True, slots=True)
class VersionsBody:
    """Versions of the configuration, the latest first."""

    versions: tuple[ConfigurationVersion, ...]


@dataclass(frozen=True, slots=True)
class CopyBody:
    """A copy of the configuration, for keeping."""

    version: str
    """Of docv2."""
    api_v2: JSONObject
    """What was set at run time."""
    environment: dict[str, Any]
    """The process settings by their variables, secrets masked. For reading: they are set where the process starts."""


async def show_configuration(request: web.Request) -> web.Response:
    """The configuration in force, and what of it was set at run time."""
    return answer(_body(request.app[SERVICES]))


async def change_configuration(request: web.Request) -> web.Response:
    """Change some settings, all of them or none, at once. null goes back to the environment or the default."""
    given = await json_of(request, Change, most=CONFIG_BYTES)
    services = request.app[SERVICES]
    changed = await services.config.change(given.api_v2.root, by=request[USER].email)
    concerns(request, version=changed.version)
    return answer(_body(services))


async def revert_configuration(request: web.Request) -> web.Response:
    """Make the configuration what it was in an earlier version; that is a new version."""
    given = await json_of(request, Revert)
    services = request.app[SERVICES]
    changed = await services.config.revert(given.version, by=request[USER].email)
    concerns(request, version=changed.version)
    return answer(_body(services))


async def list_versions(request: web.Request) -> web.Response:
    """Who changed what and when, the latest first."""
    wanted = request[QUERY]
    assert isinstance(wanted, Versions)
    found = await request.app[SERVICES].config.versions(up_to=wanted.up_to, limit=wanted.limit)
    return answer(VersionsBody(tuple(_version(one) for one in found)))


async def describe_settings(_: web.Request) -> web.Response:
    """The JSON Schema of the settings, with what each does."""
    return answer(Config.model_json_schema())


async def copy_configuration(request: web.Request) -> web.Response:
    """A copy of the configuration to keep; secrets are masked."""
    services = request.app[SERVICES]
    return answer(CopyBody(docv2.__version__, services.config.latest.overrides, _environment(services.settings)))


async def import_configuration(request: web.Request) -> web.Response:
    """Set what a copy says, and nothing else, at run time. What it says of the environment is left alone."""
    given = await json_of(request, Import, most=CONFIG_BYTES)
    services = request.app[SERVICES]
    changed = await services.config.replace(given.api_v2.root, by=request[USER].email)
    concerns(request, version=changed.version)
    return answer(_body(services))


def doubts(services: Services, model_id: str) -> Iterator[str]:
    """What an administrator should look at in what is said of a model."""
    catalog = services.catalog
    if not catalog.lists(model_id):
        yield f"No endpoint lists the model {model_id}"
    if fallback := services.config.current.model(model_id).fallback:
        model, other = catalog.get(model_id), catalog.get(fallback)
        if other is None:
            yield f"Nobody has the model {fallback}, the fallback of {model_id}"
        elif model and model.vision and not other.vision:
            yield f"The model {fallback}, the fallback of {model_id}, cannot see"


def _body(services: Services) -> ConfigurationBody:
    config, latest = services.config.current, services.config.latest
    named = dict.fromkeys([config.admin_model, *config.model_configs])
    return ConfigurationBody(
        api_v2=config,
        overrides=latest.overrides,
        version=latest.version,
        changed_at=latest.changed_at,
        changed_by=latest.changed_by,
        warnings=tuple(doubt for name in named if name for doubt in doubts(services, name)),
    )


def _version(kept: Configuration) -> ConfigurationVersion:
    return ConfigurationVersion(kept.version, kept.changed_at, kept.changed_by, kept.changes, kept.overrides)


def _environment(settings: Settings) -> dict[str, Any]:
    values = settings.model_dump(mode="json")
    return {
        env_names(name)[0]: MASK if _is_secret(getattr(settings, name)) else values[name]
        for name in Settings.model_fields
    }


def _is_secret(value: object) -> bool:
    """Whether it holds a secret, or a URL that may hold a password."""
    if isinstance(value, tuple):
        return any(_is_secret(item) for item in value)
    return bool(isinstance(value, SecretStr) and value.get_secret_value()) or (
        isinstance(value, str) and "://" in value and "@" in value
    )
