"""The models of all endpoints: which there are, what each can do, and which of them a task goes to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from docv2.documents import Page, PageSource
from docv2.errors import CannotSee, DocV2Error, InvalidValue, ModelError, StartError, Unavailable, UpstreamUnavailable
from docv2.llm.capabilities import Told, models_of, well_known
from docv2.llm.client import Endpoint
from docv2.llm.learned import Learned, Notes
from docv2.llm.plan import BYTES_PER_TOKEN

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a task can use it."""

    id: str
    endpoint: str
    """Name of the endpoint that serves it."""
    name: str
    """For display."""
    vision: bool
    vision_known: bool
    """False where seeing is a guess."""
    context: int
    """Tokens of request and answer together."""
    pictures_per_call: int
    bytes_per_token: float = BYTES_PER_TOKEN
    """Of UTF-8 text, as far as the endpoint has told by its counts."""


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
    ) -> None:
        """`preferred` gives the administrator's default model; "" where none is set."""
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._store = store
        self._learned = learned
        self._preferred = preferred
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
        """Every model, in the order of the endpoints and of their lists. Of one id at two endpoints, the first."""
        return [self._model(told, endpoint) for told, endpoint in self._index.values()]

    def get(self, model_id: str) -> Model | None:
        """The model of this id."""
        found = self._index.get(model_id)
        return self._model(*found) if found else None

    def endpoint(self, model: Model) -> Endpoint:
        """Where a model is asked."""
        return self._endpoints[model.endpoint]

    def ids_at(self, endpoints: Collection[str]) -> set[str]:
        """Ids of the models that these endpoints serve."""
        return {model_id for model_id, (_, endpoint) in self._index.items() if endpoint in endpoints}

    def default(self) -> Model | None:
        """The model of a request that names none: the administrator's, `gpt-4-vision`, else the first that sees."""
        if preferred := self._preferred():
            return self._named(preferred)
        models = self.models()
        customary = [model for model in models if model.id == CUSTOMARY_DEFAULT]
        return next(iter([*customary, *_seeing(models), *models]), None)

    def default_vision(self) -> Model | None:
        """The model that pictures go to where the one asked for does not see; None where none does."""
        default = self.default()
        return next(iter(_seeing([*([default] if default else []), *self.models()])), None)

    # -- what a task gets ---------------------------------------------------------------------------------------------
    def choose(self, model_id: str = "") -> str:
        """The model id that a new task is stored with; "" asks for the default.

        InvalidValue for one that nobody lists, unless an endpoint that never answered may have it. Unavailable where
        there is no default yet.
        """
        if not model_id:
            default = self.default()
            if default is None:
                raise Unavailable("No model is available yet.", retry_after=5.0)
            return default.id
        if not self.complete or self._named(model_id):
            return model_id
        listed = [model.id for model in self.models()]
        more = f" and {len(listed) - NAMED_IN_ERRORS} more" if len(listed) > NAMED_IN_ERRORS else ""
        known = ", ".join(listed[:NAMED_IN_ERRORS]) or "none"
        raise InvalidValue(f"Unknown model; available: {known}{more}")

    def route(self, model_id: str, *, needs_vision: bool) -> Model:
        """The model that answers a task: the one asked for, or where it cannot see what must be seen, the default one.

        UpstreamUnavailable while an endpoint that may have it never answered; ModelError where nobody has it any more;
        CannotSee where none can see.
        """
        model = self._named(model_id)
        if model is None:
            if not self.complete:
                raise UpstreamUnavailable("The model endpoint has not answered yet.", endpoint_down=True)
            raise ModelError("The model asked for is no longer available.")
        if needs_vision and not model.vision:
            model = self.default_vision()
            if model is None:
                raise CannotSee("The document has to be seen, and no available model can.")
        return model

    def _named(self, model_id: str) -> Model | None:
        """The model of this id; the administrator's even unlisted, as not every endpoint lists all it has."""
        model = self.get(model_id)
        if model is None and self.complete and self._endpoints and model_id == self._preferred():
            return self._model(Told(model_id, model_id), next(iter(self._endpoints)))
        return model

    def _model(self, told: Told, endpoint: str) -> Model:
        """What is told, else what the name says, else assumed; and what experience taught in any case."""
        vision, context = well_known(told.id) or (True, ASSUMED_CONTEXT)
        known = told.vision is not None or well_known(told.id) is not None
        if told.vision is not None:
            vision = told.vision
        facts = self._learned.of(told.id)
        context = told.context or context
        pictures = min(told.pictures or PICTURES_PER_CALL, MOST_PICTURES)
        return Model(
            id=told.id,
            endpoint=endpoint,
            name=told.name,
            vision=vision and not facts.cannot_see,
            vision_known=known or facts.cannot_see,
            context=min(context, facts.context or context),
            pictures_per_call=min(pictures, facts.pictures or pictures),
            bytes_per_token=self._learned.bytes_per_token(told.id),
        )


def route(catalog: Catalog, model_id: str, pages: Sequence[Page]) -> Model:
    """The model asked for, or one that sees where pages must be seen. Where none does, the text has to do.

    Raises like Catalog.route.
    """
    try:
        return catalog.route(model_id, needs_vision=any(page.source is PageSource.PICTURE for page in pages))
    except CannotSee:
        if not any(page.has_text for page in pages):
            raise
        return catalog.route(model_id, needs_vision=False)


def _seeing(models: Sequence[Model]) -> list[Model]:
    """Those that see, known ones first."""
    seeing = [model for model in models if model.vision]
    return sorted(seeing, key=lambda model: not model.vision_known)
