"""`docv2 models`: what is known of each model, and what administrators say of it, beside a server that may run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from docv2.bootstrap import EMBEDDED, catalog_of, learned_of
from docv2.config import RuntimeConfig, from_settings
from docv2.llm.capabilities import LOCAL_URLS
from docv2.llm.catalog import NOTE, Model, endpoints_of
from docv2.llm.client import Endpoint
from docv2.llm.learned import Learned
from docv2.settings import Settings
from docv2.store.base import Store
from docv2.tasks import JSONObject

HEAD = ("MODEL", "NAME", "SEES", "CONTEXT", "FALLBACK", "FOR", "WAITING", "ENDPOINT")


async def listed(settings: Settings, store: Store) -> list[tuple[str, ...]]:
    """A row for each model, as the server knew it last: no endpoint is asked."""
    config = await _configuration(settings, store)
    learned = learned_of(config, store)
    catalog = catalog_of(await _endpoints(settings, store, learned), config, store, learned)
    await catalog.load()
    waiting = Counter[str]()
    for work in await store.backlog():
        waiting[work.model] += work.tasks

    def row(model: Model) -> tuple[str, ...]:
        said = config.current.model(model.id)
        return (
            model.id,
            model.name,
            f"{'yes' if model.vision else 'no'} ({model.sources['vision']})",
            f"{model.context} ({model.sources['context']})",
            said.fallback or "-",
            "everyone" if said.users is None else ", ".join(said.users) or "administrators",
            str(waiting[model.id]),
            model.endpoint,
        )

    return [row(model) for model in catalog.models()]


async def _endpoints(settings: Settings, store: Store, learned: Learned) -> Sequence[Endpoint]:
    """Those of the settings; where they name none, those that the server had last."""
    if settings.openai_base_urls and not settings.looks_for_endpoints:
        return endpoints_of(settings.openai_base_urls, [], learned)
    had = await store.notes(NOTE)
    names = [url for url in LOCAL_URLS if url in had and settings.looks_for_endpoints] or [EMBEDDED]
    return [Endpoint(LOCAL_URLS[0], name=name, learned=learned) for name in names]  # only named, never asked


async def say(settings: Settings, store: Store, model_id: str, facts: JSONObject) -> None:
    """Say something of a model; what was said of it besides stays."""
    config = await _configuration(settings, store)
    await config.change({"model_configs": {model_id: facts}}, by="command line")


async def take_back(settings: Settings, store: Store, model_id: str) -> None:
    """Take back all that is said of a model. NotFound where nothing is, Conflict where the environment says it."""
    await (await _configuration(settings, store)).take_back(model_id, by="command line")


async def _configuration(settings: Settings, store: Store) -> RuntimeConfig:
    config = RuntimeConfig(from_settings(settings, total_memory=0), store)
    await config.load()
    return config
