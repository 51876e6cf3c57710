"""What a model can do: what its server tells, in the form of each kind of server, and a table of well-known names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from docv2.errors import DocV2Error, UpstreamUnavailable
from docv2.llm.client import Endpoint
from docv2.tasks import JSONObject

MOST_MODELS = 2_000
"""Entries of one list that are read."""
MOST_DETAILS = 100
"""Models of one server that are asked about one by one."""
UNTOLD_LOCAL_CONTEXT = 4_096
"""Tokens that Ollama and LM Studio load a model with unless told otherwise. Ollama cuts what is longer without a word:
this counts, not what the model was trained for (docs.ollama.com/context-length, November 2026)."""

LOCAL_URLS = tuple(f"http://127.0.0.1:{port}/v1" for port in (11434, 1234, 8000, 8080))
"""Where Ollama, LM Studio, vLLM and llama.cpp listen unless told otherwise."""
LOOK_SECONDS = 5.0
"""What listens at such an address has so long to list its models."""
TAG_DETAILS = ("parent_model", "format", "family", "parameter_size", "quantization_level")
"""Of a model in Ollama's list (github.com/ollama/ollama, docs/api.md)."""

NOT_CHAT = re.compile(
    r"embed|rerank|moderation|whisper|tts|transcribe|realtime|audio|speech|dall-e|gpt-image|sora|veo|imagen|flux"
    r"|stable-diffusion|babbage|davinci|guard"
)
"""Listed beside the others, but they do not answer requests."""

WELL_KNOWN: tuple[tuple[str, bool, int], ...] = (
    # first match wins; vision and context in tokens, from their makers' pages, November 2026
    (r"gpt-4-vision|gpt-4-turbo|gpt-4o", True, 128_000),
    (r"gpt-4\.1", True, 1_047_576),
    (r"gpt-4", False, 8_192),
    (r"gpt-3\.5", False, 16_385),
    (r"gpt-oss", False, 131_072),
    (r"gpt-[5-9]", True, 272_000),
    (r"\bo[13]-mini|\bo1-preview", False, 128_000),
    (r"\bo[134](-|$)", True, 200_000),
    (r"claude", True, 200_000),
    (r"gemini", True, 1_048_576),
    (r"gemma-?[34](?!.*(270m|[-:_]1b))", True, 32_768),
    (r"llama-?3\.2.*vision|llama-?4", True, 131_072),
    (r"qwen.*vl|qwen.*omni|qvq", True, 32_768),
    (r"pixtral|mistral-(small|medium)-?(3\.[1-9]|2[5-9])", True, 131_072),
    (r"llava|minicpm-v|moondream|internvl|smolvlm|docling|molmo|idefics|deepseek-ocr|glm-\d.*v\b", True, 8_192),
    (r"vision|[-_:/]vl\b|vlm|multimodal|omni", True, 32_768),
    (r"llama|mistral|mixtral|qwen|gemma|phi|deepseek|granite|command", False, 32_768),
)


@dataclass(frozen=True, slots=True)
class Told:
    """One model of a list, and what is said of it. None where nothing is."""

    id: str
    name: str
    vision: bool | None = None
    context: int | None = None
    """Tokens of request and answer together."""
    pictures: int | None = None
    ollama: JSONObject | None = None
    """What Ollama itself lists of it."""


@lru_cache(4 * MOST_MODELS)
def well_known(model_id: str) -> tuple[bool, int] | None:
    """Whether a model of this name sees, and its context; None for a name that says nothing."""
    name = model_id.lower()
    for pattern, vision, context in WELL_KNOWN:
        if re.search(pattern, name):
            return vision, context
    return None


async def found_here(urls: Sequence[str] = LOCAL_URLS) -> list[str]:
    """Those of the addresses at which a server lists models. None is sent a key: what listens there is not known."""

    async def lists(url: str) -> bool:
        try:
            async with Endpoint(url) as endpoint, asyncio.timeout(LOOK_SECONDS):
                _entries(await endpoint.get("/models"))
        except (DocV2Error, TimeoutError):
            return False
        return True

    answers = await asyncio.gather(*map(lists, urls))
    return [url for url, answer in zip(urls, answers, strict=True) if answer]


async def models_of(endpoint: Endpoint) -> list[Told]:
    """Every model that an endpoint lists, with what it tells of each. Raises like `Endpoint.get`."""
    entries = _entries(await endpoint.get("/models"))
    told = {entry["id"]: _from_entry(entry) for entry in entries}
    owners = [entry.get("owned_by") for entry in entries]
    root = endpoint.base_url.removesuffix("/v1")
    with suppress(DocV2Error):  # not that kind of server after all: the list has to do
        if "library" in owners:
            told = await _ollama(endpoint, root, told)
        elif "llamacpp" in owners:
            told = await _llama_cpp(endpoint, root, told)
        elif "organization_owner" in owners:
            told = await _lm_studio(endpoint, root, told)
    return list(told.values())


def _entries(listed: dict[str, Any] | list[Any]) -> list[dict[str, Any]]:
    items = listed if isinstance(listed, list) else listed.get("data", "")  # Together sends the bare list
    if items is not None and not isinstance(items, list):  # Ollama without models sends null
        raise UpstreamUnavailable("The model endpoint sent no list of models.", endpoint_down=False)
    return [
        item
        for item in (items or [])[:MOST_MODELS]
        if isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and 0 < len(item["id"]) <= 200
        and item["id"].isprintable()
        and not NOT_CHAT.search(item["id"].lower())
        and item.get("owned_by") != "arena"  # Open WebUI's lottery among the other models
    ]


def _from_entry(entry: dict[str, Any]) -> Told:
    """What the list itself says."""
    name = entry.get("name")
    architecture, capabilities = _object(entry, "architecture"), _object(entry, "capabilities")
    modalities = architecture.get("input_modalities")
    vision: bool | None = None
    if isinstance(modalities, list):  # OpenRouter
        vision = "image" in modalities
    elif isinstance(capabilities.get("vision"), bool):  # Mistral
        vision = capabilities["vision"]
    elif isinstance(entry.get("supports_image_input"), bool):  # Fireworks
        vision = entry["supports_image_input"]
    elif "info" in entry:  # Open WebUI, whose own rule is that a missing word means yes
        vision = _object(entry, "info", "meta", "capabilities").get("vision", True) is not False
    contexts = [
        _count(where.get(field))
        for where, field in (
            (entry, "context_length"),  # OpenRouter, Together
            (_object(entry, "top_provider"), "context_length"),
            (entry, "max_model_len"),  # vLLM, SGLang
            (entry, "max_context_length"),  # Mistral
            (entry, "context_window"),  # Groq
        )
    ]
    return Told(
        entry["id"],
        name if isinstance(name, str) and name.isprintable() and len(name) <= 200 else entry["id"],
        vision,
        min((context for context in contexts if context), default=None),
        _count(entry.get("pictures_per_call")),  # the embedded reader
    )


async def _ollama(endpoint: Endpoint, root: str, told: dict[str, Told]) -> dict[str, Told]:
    """`/api/show` of each model, `/api/ps` for the context of those that are loaded, `/api/tags` as it is."""
    loaded = {
        str(_object(item).get("model")): _count(_object(item).get("context_length"))
        for item in _list(await endpoint.get(f"{root}/api/ps"), "models")
    }
    tags: dict[str, JSONObject] = {}
    with suppress(DocV2Error):
        for item in map(_object, _list(await endpoint.get(f"{root}/api/tags"), "models")):
            tags[str(item.get("model"))] = _tag(item)
    gate = asyncio.Semaphore(4)

    async def show(one: Told) -> Told:
        try:
            async with gate:
                shown = await endpoint.get(f"{root}/api/show", {"model": one.id})
        except DocV2Error:
            return replace(one, ollama=tags.get(one.id))
        info = _object(shown, "model_info")
        trained = next((_count(value) for key, value in info.items() if key.endswith(".context_length")), None)
        parameters = shown.get("parameters") if isinstance(shown, dict) else None
        chosen = re.search(r"^num_ctx\s+(\d+)", parameters, re.MULTILINE) if isinstance(parameters, str) else None
        context = loaded.get(one.id) or (int(chosen[1]) if chosen else UNTOLD_LOCAL_CONTEXT)
        return replace(
            one,
            vision="vision" in _list(shown, "capabilities"),
            context=min(context, trained or context),
            ollama=tags.get(one.id),
        )

    shown = await asyncio.gather(*(show(one) for one in list(told.values())[:MOST_DETAILS]))
    return told | {one.id: one for one in shown}


def _tag(item: dict[str, Any]) -> JSONObject:
    """What Ollama lists of a model, without what its clients do not know."""
    details = _object(item, "details")
    families = details.get("families")
    return {
        "modified_at": _word(item.get("modified_at")),
        "size": item["size"] if isinstance(item.get("size"), int) else 0,
        "digest": _word(item.get("digest")),
        "details": {
            **{name: _word(details.get(name)) for name in TAG_DETAILS},
            "families": [_word(family) for family in families[:10]] if isinstance(families, list) else [],
        },
    }


async def _llama_cpp(endpoint: Endpoint, root: str, told: dict[str, Told]) -> dict[str, Told]:
    """`/props` of the one model that runs; `meta` in the list has the context it was trained with, which is not it."""
    props = await endpoint.get(f"{root}/props")
    vision = _object(props, "modalities").get("vision")
    context = _count(_object(props, "default_generation_settings").get("n_ctx"))
    return {
        one.id: replace(one, vision=vision if isinstance(vision, bool) else None, context=context)
        for one in told.values()
    }


async def _lm_studio(endpoint: Endpoint, root: str, told: dict[str, Told]) -> dict[str, Told]:
    """`/api/v0/models`, where a model that sees is a `vlm`."""
    for item in map(_object, _list(await endpoint.get(f"{root}/api/v0/models"), "data")):
        one = told.get(str(item.get("id")))
        if one is not None:
            context = _count(item.get("loaded_context_length")) or UNTOLD_LOCAL_CONTEXT
            told[one.id] = replace(one, vision=item.get("type") == "vlm", context=context)
    return told


def _object(value: object, *path: str) -> dict[str, Any]:
    """The object at a path; empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _list(value: object, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _word(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < 2**31 else None
