"""The models of all endpoints: which there are, what each can do, and which of them a task goes to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Protocol, TypeVar

from docv2.documents import Page, PageSource
from docv2.errors import (
    CannotSee,
    DocV2Error,
    Forbidden,
    InvalidValue,
    ModelError,
    StartError,
    Unavailable,
    UpstreamUnavailable,
)
from docv2.llm.capabilities import Told, models_of, well_known
from docv2.llm.client import Endpoint
from docv2.llm.learned import Learned, Notes
from docv2.llm.plan import BYTES_PER_TOKEN
from docv2.tasks import JSONObject

log = logging.getLogger(__name__)

T = TypeVar("T")

May = Callable[[str], bool]
"""Whether whoever a model is chosen for may use it, by its id."""

NOTE = "catalog"
REFRESH_TIMEOUT = 10.0
"""Seconds an endpoint has to list its models."""
ASSUMED_CONTEXT = 32_768
"""Tokens where nobody says: what the smallest of today's hosted models hold. Too low only splits a document more often;
too high fails, or worse, loses what a server cuts off without a word."""
PICTURES_PER_CALL = 8
"""Pictures where nobody says. Bounds the memory of a call: eight pages of 0.5 MB take some 35 MB on their way."""
MOST_PICTURES = 32
"""Whatever an endpoint says: the memory is ours."""
CUSTOMARY_DEFAULT = "gpt-4-vision"
NAMED_IN_ERRORS = 20


class Said(Protocol):
    """What the administrator says of a model; None where nothing."""

    @property
    def name(self) -> str | None:
        """For display."""

    @property
    def vision(self) -> bool | None:
        """Whether it can see."""

    @property
    def context(self) -> int | None:
        """Tokens of request and answer together."""

    @property
    def fallback(self) -> str | None:
        """Id of the model that answers in its place where it cannot."""


class Source(StrEnum):
    """Who says what a model is. The first one that says anything counts, but for experience, which overrules all."""

    ENTRY = "entry"
    """The administrator's entry."""
    ENDPOINT = "endpoint"
    TABLE = "table"
    """Of well-known names."""
    ASSUMED = "assumed"
    LEARNED = "learned"
    """From a refusal."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a task can use it."""

    id: str
    endpoint: str
    """Name of the endpoint that serves it."""
    name: str
    """For display."""
    vision: bool
    context: int
    """Tokens of request and answer together."""
    pictures_per_call: int
    bytes_per_token: float = BYTES_PER_TOKEN
    """Of UTF-8 text, as far as the endpoint has told by its counts."""
    ollama: JSONObject | None = field(default=None, compare=False)
    """What Ollama lists of it, where that serves it."""
    sources: Mapping[str, Source] = field(default_factory=dict, compare=False)
    """By field, for the fields that somebody must say."""

    @property
    def guessed_to_see(self) -> bool:
        """Whether nobody says if it sees."""
        return self.sources.get("vision") is Source.ASSUMED


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer a task."""

    model: Model
    note: str = ""
    """What the reader of its answer must know."""


def endpoints_of(urls: Sequence[str], keys: Sequence[str], learned: Learned) -> list[Endpoint]:
    """Endpoints from settings: keys in the order of the addresses, or one for all."""
    if len(keys) > 1 and len(keys) != len(urls):
        raise StartError(
            f"OPENAI_API_KEYS: {len(keys)} keys for {len(urls)} addresses; give one for each, or one for all"
        )
    paired = zip(urls, list(keys) if len(keys) > 1 else [*keys, ""][:1] * len(urls), strict=True)
    return list({endpoint.name: endpoint for endpoint in (Endpoint(u, k, learned=learned) for u, k in paired)}.values())


class Catalog:
    """What is known of the endpoints' models. The endpoints are entered by whoever made them."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        store: Notes,
        learned: Learned,
        *,
        preferred: Callable[[], str] = lambda: "",
        said: Callable[[], Mapping[str, Said]] = dict,
    ) -> None:
        """`preferred` gives the administrator's default model, "" where none is set; `said` the entries by model."""
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._store = store
        self._learned = learned
        self._preferred = preferred
        self._said = said
        self._told: dict[str, list[Told]] = {}
        """By endpoint; those that never answered are missing."""
        self._index: dict[str, tuple[Told, str]] = {}
        """By id, with the name of the endpoint; in the order of the endpoints and of their lists."""

    async def load(self) -> None:
        """Take up the last catalogue, so that a start does not depend on any endpoint."""
        await self._learned.load()
        for name, note in (await self._store.notes(NOTE)).items():
            if name in self._endpoints:
                self._told[name] = [Told(**entry) for entry in note["models"]]
        self._reindex()

    async def refresh(self) -> None:
        """Ask every endpoint what it has. One that does not answer keeps what it said before."""
        await asyncio.gather(*(self._refresh(endpoint) for endpoint in self._endpoints.values()))

    async def _refresh(self, endpoint: Endpoint) -> None:
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT):
                told = await models_of(endpoint)
        except (DocV2Error, TimeoutError) as error:
            log.warning("model endpoint %s does not list its models: %s", endpoint.name, error or "no answer in time")
            return
        if told != self._told.get(endpoint.name):
            self._told[endpoint.name] = told
            self._reindex()
            log.info("model endpoint %s lists %d models", endpoint.name, len(told))
            try:
                await self._store.save_note(NOTE, endpoint.name, {"models": [asdict(one) for one in told]})
            except DocV2Error as error:  # it holds for this run all the same
                log.warning("the models of %s are not kept: %s", endpoint.name, error)

    def _reindex(self) -> None:
        self._index = {}
        for name in self._endpoints:
            for told in self._told.get(name, ()):
                self._index.setdefault(told.id, (told, name))

    @property
    def complete(self) -> bool:
        """Whether every endpoint has listed its models at least once, in this run or an earlier one."""
        return self._told.keys() == self._endpoints.keys()

    # -- what there is ------------------------------------------------------------------------------------------------
    def models(self) -> list[Model]:
        """Every model, in the order of the endpoints and of their lists. Of one id at two endpoints, the first.

        At the end those that the administrator alone names.
        """
        return list(self._each(lambda _: True))

    def _each(self, may: May) -> Iterator[Model]:
        """Those that may be used, one by one: thousands may be listed, and often the first will do."""
        for model_id in dict.fromkeys((*self._index, *self._said())):
            if may(model_id) and (model := self.get(model_id)):
                yield model

    def get(self, model_id: str) -> Model | None:
        """The model of this id. The administrator's exist unlisted too, as not every endpoint lists all it has."""
        found = self._found(model_id)
        return self._model(*found) if found else None

    def described(self, model_id: str) -> Model:
        """What would be known of a model of this id if it was there; then without an endpoint."""
        return self._model(*(self._found(model_id) or (Told(model_id, model_id), "")))

    def _found(self, model_id: str) -> tuple[Told, str] | None:
        if found := self._index.get(model_id):
            return found
        named = model_id and (model_id == self._preferred() or model_id in self._said())
        if not (named and self._endpoints and self.complete):
            return None
        return Told(model_id, model_id), next(iter(self._endpoints))

    def lists(self, model_id: str) -> bool:
        """Whether an endpoint lists it."""
        return model_id in self._index

    def endpoint(self, model: Model) -> Endpoint:
        """Where a model is asked."""
        return self._endpoints[model.endpoint]

    def ids_at(self, endpoints: Collection[str]) -> set[str]:
        """Ids of the models that these endpoints serve."""
        ids = (*self._index, *self._said(), self._preferred())
        return {model_id for model_id in ids if self.endpoint_of(model_id) in endpoints}

    def endpoint_of(self, model_id: str) -> str:
        """Name of the endpoint that serves a model; "" where none does."""
        found = self._found(model_id)
        return found[1] if found else ""

    def fallbacks(self, model_id: str) -> Iterator[Model]:
        """Who answers where a model cannot: its fallback, then that one's, and so on, each once."""
        seen = {model_id}
        while (said := self._said().get(model_id)) and (following := said.fallback) and following not in seen:
            seen.add(following)
            if model := self.get(following):
                yield model
            model_id = following

    def default(self, may: May) -> Model | None:
        """The model of a request that names none: the administrator's, `gpt-4-vision`, else the first that sees.

        Always one that may be used; None where there is none.
        """
        if (preferred := self._preferred()) and may(preferred):
            return self.get(preferred)
        if may(CUSTOMARY_DEFAULT) and (customary := self.get(CUSTOMARY_DEFAULT)):
            return customary
        return _seeing(self._each(may)) or next(self._each(may), None)

    def default_vision(self, may: May) -> Model | None:
        """The model that pictures go to where the one asked for does not see; None where none does."""
        default = self.default(may)
        return _seeing(chain([default] if default else [], self._each(may)))

    # -- what a task gets ---------------------------------------------------------------------------------------------
    def choose(self, model_id: str, may: May) -> str:
        """The model id that a new task is stored with; "" asks for the default.

        InvalidValue for one that nobody has, unless an endpoint that never answered may have it. Forbidden for one that
        may not be used. Unavailable where there is no default yet.
        """
        if not model_id:
            default = self.default(may)
            if default is not None:
                return default.id
            if self.complete and self._index:
                raise Forbidden("Model not permitted: you may use none of those that there are")
            raise Unavailable("No model is available yet.", retry_after=5.0)
        if self.complete and self.get(model_id) is None:
            known = [model.id for model in self._each(may)]
            more = f" and {len(known) - NAMED_IN_ERRORS} more" if len(known) > NAMED_IN_ERRORS else ""
            raise InvalidValue(f"Unknown model; available: {', '.join(known[:NAMED_IN_ERRORS]) or 'none'}{more}")
        if not may(model_id):
            raise Forbidden("Model not permitted")
        return model_id

    def candidates(self, model_id: str, may: May, *, needs_vision: bool, gone: Collection[str] = ()) -> list[Candidate]:
        """Who may answer a task, in order: the model asked for and its fallbacks, as far as they see what must be seen.

        Instead of one that does not see comes the default one that does, instead of one that nobody has any more, or
        that is `gone`, the default. UpstreamUnavailable where no endpoint has told yet of any of them; ModelError where
        there is no model; CannotSee where none can see.
        """
        model = None if model_id in gone else self.get(model_id)
        note = ""

        def there(one: str) -> bool:
            return may(one) and one not in gone

        if model is None and self.complete:
            model = self.default(there)
            if model is None:
                raise ModelError("The model asked for is no longer available.")
            note = f"The model asked for, {model_id}, is no longer available; another one answered."
        if model is not None and needs_vision and not model.vision:
            model = self.default_vision(there)
            if model is None:
                raise CannotSee("The document has to be seen, and no available model can.")
        first = model.id if model else model_id
        others = [
            Candidate(other, f"{note} {first} did not answer; its fallback {other.id} did.".lstrip())
            for other in self.fallbacks(first)
            if there(other.id) and (other.vision or not needs_vision)
        ]
        if model is None and not others:
            raise UpstreamUnavailable("The model endpoint has not answered yet.", endpoint_down=True)
        return [*([Candidate(model, note)] if model else []), *others]

    def _model(self, told: Told, endpoint: str) -> Model:
        """What is said of a model, each thing by whoever comes first; and what experience taught in any case."""
        said, facts = self._said().get(told.id), self._learned.of(told.id)
        sees, holds = well_known(told.id) or (None, None)
        name, named_by = _first(
            (said.name if said else None, Source.ENTRY),
            (told.name if told.id in self._index else None, Source.ENDPOINT),
            (told.name, Source.ASSUMED),
        )
        vision, seen_by = _first(
            (said.vision if said else None, Source.ENTRY),
            (told.vision, Source.ENDPOINT),
            (sees, Source.TABLE),
            (True, Source.ASSUMED),
        )
        context, measured_by = _first(
            (said.context if said else None, Source.ENTRY),
            (told.context, Source.ENDPOINT),
            (holds, Source.TABLE),
            (ASSUMED_CONTEXT, Source.ASSUMED),
        )
        pictures, counted_by = _first((told.pictures, Source.ENDPOINT), (PICTURES_PER_CALL, Source.ASSUMED))
        if vision and facts.cannot_see:
            vision, seen_by = False, Source.LEARNED
        if facts.context and facts.context < context:
            context, measured_by = facts.context, Source.LEARNED
        if facts.pictures and facts.pictures < pictures:
            pictures, counted_by = facts.pictures, Source.LEARNED
        return Model(
            id=told.id,
            endpoint=endpoint,
            name=name,
            vision=vision,
            context=context,
            pictures_per_call=min(pictures, MOST_PICTURES),
            bytes_per_token=self._learned.bytes_per_token(told.id),
            ollama=told.ollama,
            sources={
                "name": named_by,
                "vision": seen_by,
                "context": measured_by,
                "pictures_per_call": counted_by,
            },
        )


def candidates(
    catalog: Catalog, model_id: str, pages: Sequence[Page], may: May, *, gone: Collection[str] = ()
) -> list[Candidate]:
    """Who may answer about these pages, of which there is at least one. Where nobody sees, the text has to do.

    Raises like Catalog.candidates.
    """
    try:
        must_see = any(page.source is PageSource.PICTURE for page in pages)
        return catalog.candidates(model_id, may, needs_vision=must_see, gone=gone)
    except CannotSee:
        if not any(page.has_text for page in pages):
            raise
        return catalog.candidates(model_id, may, needs_vision=False, gone=gone)


def _first(*choices: tuple[T | None, Source]) -> tuple[T, Source]:
    """The first that says anything; the last one always does."""
    return next((value, source) for value, source in choices if value is not None)


def _seeing(models: Iterable[Model]) -> Model | None:
    """The first that is known to see, else the first that may."""
    guess = None
    for model in models:
        if model.vision and not model.guessed_to_see:
            return model
        guess = guess or (model if model.vision else None)
    return guess
