"""The routes of models: what there is to choose from, in three shapes, and what administrators say of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field

from docv2.config import Config
from docv2.configparts import (
    LEAST_CONTEXT,
    LONGEST_SECONDS,
    MOST_CONTEXT,
    MOST_TOKENS,
    Context,
    Email,
    ModelConfig,
    Name,
    Seconds,
    Temperature,
    Tokens,
)
from docv2.errors import InvalidValue
from docv2.llm.catalog import Model, Source
from docv2.validation import Input
from docv2.web.answers import answer
from docv2.web.audit import concerns
from docv2.web.configuration import CONFIG_BYTES, doubts
from docv2.web.inputs import json_of
from docv2.web.middleware import caller
from docv2.web.state import SERVICES, USER

if TYPE_CHECKING:
    from docv2.bootstrap import Services

CONFIGURATION = "configuration"
"""Says what an entry leaves out and no endpoint tells: the settings for all models."""


# -- for everyone -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as listed."""

    id: str
    name: str
    vision_capable: bool
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a task of a model gets unless its request says otherwise."""

    temperature: float
    max_tokens: int
    vision_capable: bool


@dataclass(frozen=True, slots=True)
class ModelsBody:
    """The models that documents can be sent to."""

    models: tuple[ListedModel, ...]
    default_model: str
    """Empty where no endpoint has listed a model yet, or none is for the caller."""
    vision_models: tuple[str, ...]
    model_configs: dict[str, ModelDefaults]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do."""

    vision: bool


@dataclass(frozen=True, slots=True)
class Meta:
    """What is known of a model."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class Info:
    """The same, where Open WebUI's clients look for it."""

    meta: Meta


@dataclass(frozen=True, slots=True)
class OpenAIModel:
    """A model in OpenAI's shape, with what Open WebUI adds."""

    id: str
    object: str
    """`model`."""
    created: int
    """0: nobody tells."""
    owned_by: str
    """`ollama` where Ollama serves it, else `openai`."""
    name: str
    info: Info


@dataclass(frozen=True, slots=True)
class OpenAIModels:
    """The models that the caller may use."""

    object: str
    """`list`."""
    data: tuple[OpenAIModel, ...]


@dataclass(frozen=True, slots=True)
class OllamaDetails:
    """What Ollama knows of a model file."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model as Ollama lists it."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails


@dataclass(frozen=True, slots=True)
class OllamaModels:
    """Public models of Ollama."""

    models: tuple[OllamaModel, ...]


async def models(request: web.Request) -> web.Response:
    """The models, and what each is asked with by default. With credentials also those that are not for everyone."""
    services = request.app[SERVICES]
    config = services.config.current
    may = partial(config.permits, await caller(request))
    listed = [model for model in services.catalog.models() if may(model.id)]
    default = services.catalog.default(may)
    return answer(
        ModelsBody(
            models=tuple(
                ListedModel(model.id, model.name, model.vision, ("vision", "text") if model.vision else ("text",))
                for model in listed
            ),
            default_model=default.id if default else "",
            vision_models=tuple(model.id for model in listed if model.vision),
            model_configs={model.id: _defaults(config, model) for model in listed},
        )
    )


def _defaults(config: Config, model: Model) -> ModelDefaults:
    own = config.model(model.id)
    temperature = config.temperature if own.temperature is None else own.temperature
    return ModelDefaults(temperature, own.max_tokens or config.max_tokens, model.vision)


async def openai_models(request: web.Request) -> web.Response:
    """The models that the caller may use, in the shape of OpenAI and Open WebUI."""
    services = request.app[SERVICES]
    return answer(
        OpenAIModels(
            "list",
            tuple(
                OpenAIModel(
                    id=model.id,
                    object="model",
                    created=0,
                    owned_by="ollama" if model.ollama else "openai",
                    name=model.name,
                    info=Info(Meta(Capabilities(model.vision))),
                )
                for model in services.catalog.models()
                if services.config.current.permits(request[USER], model.id)
            ),
        )
    )


async def ollama_models(request: web.Request) -> web.Response:
    """The models that everyone may use and Ollama serves, in its shape; none where there is no Ollama."""
    services = request.app[SERVICES]
    return answer(
        OllamaModels(
            tuple(
                OllamaModel(model.id, model.id, **{**model.ollama, "details": OllamaDetails(**model.ollama["details"])})
                for model in services.catalog.models()
                if model.ollama and services.config.current.permits(None, model.id)
            )
        )
    )


# -- for administrators -----------------------------------------------------------------------------------------------
class ModelMeta(Input):
    """Some of what is said of a model, in the form of Open WebUI."""

    model_config = ConfigDict(strict=True)

    vision: bool | None = Field(None, description="true or false: whether it can see")
    max_tokens: Tokens | None = Field(None, description=f"a whole number from 1 to {MOST_TOKENS}")


class ModelEntry(Input):
    """All that is said of a model; what is left out is as for all models, or as its endpoint tells."""

    model_config = ConfigDict(strict=True)

    id: Name = Field(description="the id of a model, of at most 200 characters")
    name: Name | None = Field(None, description="text of at most 200 characters, for display")
    vision: bool | None = Field(None, description="true or false: whether it can see")
    context: Context | None = Field(
        None, description=f"a whole number from {LEAST_CONTEXT} to {MOST_CONTEXT}: tokens of request and answer"
    )
    temperature: Temperature | None = Field(None, description="a number from 0.0 to 2.0")
    max_tokens: Tokens | None = Field(None, description=f"a whole number from 1 to {MOST_TOKENS}")
    timeout: Seconds | None = Field(None, description=f"a number of seconds above 0, at most {LONGEST_SECONDS:g}")
    fallback: Name | None = Field(None, description="the id of another model, which answers where this one cannot")
    users: Annotated[list[Email], Field(max_length=1000)] | None = Field(
        None, description="a list of at most 1000 e-mail addresses of those who may use it; without one everyone may"
    )
    meta: ModelMeta | None = Field(None, description="an object with vision and max_tokens, as they may stand beside")

    def changes(self) -> dict[str, Any]:
        """What makes this, and nothing else, the entry. InvalidValue where it says two things of one."""
        given = self.model_dump(exclude={"id", "meta"}, exclude_none=True)
        meta = self.meta.model_dump(exclude_none=True) if self.meta else {}
        for name in meta:
            if given.get(name, meta[name]) != meta[name]:
                raise InvalidValue(f"{name} and meta.{name} are one thing and say different things")
        return {**dict.fromkeys(ModelConfig.model_fields), **given, **meta}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model, what is known of it and by whom, and how it stands."""

    id: str
    name: str
    vision: bool
    context: int
    """Tokens of request and answer together."""
    pictures_per_call: int
    temperature: float
    max_tokens: int
    timeout: float
    """Seconds between two finished pages or parts."""
    sources: dict[str, str]
    """Who says each of those: `entry`, `endpoint`, `table` (of well-known names), `assumed`, `learned` (from a refusal)
    or `configuration` (for all models)."""
    has_entry: bool
    listed: bool
    """Whether an endpoint lists it."""
    endpoint_blocked: bool
    """Whether its endpoint is failing, and so left alone for now."""
    waiting_tasks: int
    """That ask for it."""
    warnings: tuple[str, ...]
    endpoint: str | None = None
    """Where it is asked; not there while that is not known."""
    fallback: str | None = None
    users: tuple[str, ...] | None = None
    """Who may use it beside administrators; not there where everyone may."""


@dataclass(frozen=True, slots=True)
class KnownModels:
    """Every model."""

    models: tuple[KnownModel, ...]


@dataclass(frozen=True, slots=True)
class RemovedEntry:
    """The entry of a model is gone."""

    id: str
    exists: bool
    """Whether there is such a model all the same."""
    waiting_tasks: int
    """That ask for it."""
    message: str
    """What becomes of them, and of the model."""


async def list_models(request: web.Request) -> web.Response:
    """Every model, and who says what of it."""
    services = request.app[SERVICES]
    waiting = await _waiting(services)
    there = services.catalog.models()
    ids = {model.id for model in there}
    missing = [services.catalog.described(name) for name in services.config.current.model_configs if name not in ids]
    return answer(KnownModels(tuple(_known(services, model, waiting) for model in (*there, *missing))))


async def set_model(request: web.Request) -> web.Response:
    """Say all that is said of a model; 201 where nothing was said of it before.

    A model that no endpoint lists is there from then on, and asked for at the first endpoint. The same may be said as
    `model_configs` of the configuration, of which this makes a new version.
    """
    given = await json_of(request, ModelEntry, most=CONFIG_BYTES)
    services = request.app[SERVICES]
    is_new = given.id not in services.config.current.model_configs
    changed = await services.config.change({"model_configs": {given.id: given.changes()}}, by=request[USER].email)
    concerns(request, model_id=given.id, version=changed.version)
    body = _known(services, services.catalog.described(given.id), await _waiting(services))
    return answer(body, status=201 if is_new else 200)


async def remove_model(request: web.Request) -> web.Response:
    """Take back all that is said of a model. Its waiting tasks are answered in any case."""
    services, model_id = request.app[SERVICES], request.match_info["model_id"]
    config = services.config
    was_restricted = config.current.model(model_id).users is not None
    changed = await config.take_back(model_id, by=request[USER].email)
    concerns(request, version=changed.version)
    exists, waiting = services.catalog.get(model_id) is not None, (await _waiting(services))[model_id]
    now_open = was_restricted and exists and config.current.permits(None, model_id)
    return answer(
        RemovedEntry(
            model_id, exists, waiting, _fate(services, exists) + (" Everyone may use it now." if now_open else "")
        )
    )


def _fate(services: Services, exists: bool) -> str:
    if exists:
        return "There is such a model all the same; tasks that wait for it go on as before."
    if not services.catalog.complete:
        return "Tasks that wait for it go on waiting until every endpoint has told which models it has."
    default = services.catalog.default(lambda _: True)
    named = f", which is {default.id} unless that is not for them" if default else ""
    return f"Nobody has it any more; tasks that wait for it are answered by their owner's default model{named}."


async def _waiting(services: Services) -> Counter[str]:
    """Waiting tasks by the model that they ask for."""
    waiting = Counter[str]()
    for work in await services.store.backlog():
        waiting[work.model] += work.tasks
    return waiting


def _known(services: Services, model: Model, waiting: Mapping[str, int]) -> KnownModel:
    config = services.config.current
    own, defaults = config.model(model.id), _defaults(config, model)
    from_configuration = {
        name: CONFIGURATION if getattr(own, name) is None else Source.ENTRY.value
        for name in ("temperature", "max_tokens", "timeout")
    }
    return KnownModel(
        id=model.id,
        name=model.name,
        vision=model.vision,
        context=model.context,
        pictures_per_call=model.pictures_per_call,
        temperature=defaults.temperature,
        max_tokens=defaults.max_tokens,
        timeout=config.step_seconds(model.id),
        sources={**{name: source.value for name, source in model.sources.items()}, **from_configuration},
        has_entry=model.id in config.model_configs,
        listed=services.catalog.lists(model.id),
        endpoint_blocked=model.endpoint in services.health.blocked_endpoints(),
        waiting_tasks=waiting.get(model.id, 0),
        warnings=tuple(doubts(services, model.id)),
        endpoint=model.endpoint or None,
        fallback=own.fallback,
        users=own.users,
    )
