"""Which models there are, what each can do, and which one a task goes to."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from docv2.configparts import ModelConfig
from docv2.errors import CannotSee, Forbidden, InvalidValue, ModelError, StartError, Unavailable, UpstreamUnavailable
from docv2.llm.capabilities import LOCAL_URLS, UNTOLD_LOCAL_CONTEXT, found_here, models_of, well_known
from docv2.llm.catalog import ASSUMED_CONTEXT, MOST_PICTURES, PICTURES_PER_CALL, Catalog, endpoints_of
from docv2.llm.client import Endpoint
from docv2.llm.learned import FORGOTTEN_AFTER, Facts, Learned
from docv2.store.sqlite import SQLiteStore
from tests import endpoint as scripted
from tests.endpoint import Behaviour, ScriptedEndpoint

Make = Callable[..., Any]


def anyone(_: str) -> bool:
    return True


def first(catalog: Catalog, model_id: str, *, needs_vision: bool) -> str:
    """The model that is asked first."""
    return catalog.candidates(model_id, anyone, needs_vision=needs_vision)[0].model.id


@pytest.fixture
async def make(store: SQLiteStore) -> AsyncIterator[Make]:
    """A catalogue of some scripted endpoints, as after a start."""
    async with AsyncExitStack() as stack:

        async def make(
            *servers: ScriptedEndpoint,
            preferred: str = "",
            refresh: bool = True,
            entries: dict[str, ModelConfig] | None = None,
        ) -> Catalog:
            said = entries if entries is not None else {}
            learned = Learned(store, said=lambda model: [said[model].context] if model in said else [])
            endpoints = endpoints_of([server.base_url for server in servers], [], learned)
            for endpoint in endpoints:
                await stack.enter_async_context(endpoint)
            catalog = Catalog(endpoints, store, learned, preferred=lambda: preferred, said=lambda: said)
            await catalog.load()
            if refresh:
                await catalog.refresh()
            return catalog

        yield make


# -- what there is ----------------------------------------------------------------------------------------------------
async def test_lists_the_models_of_all_endpoints_in_order(make: Make) -> None:
    async with ScriptedEndpoint(["b", "a"]) as first, ScriptedEndpoint(["a", "c"]) as second:
        catalog = await make(first, second)
    models = catalog.models()
    assert [(m.id, m.endpoint) for m in models] == [
        ("b", first.base_url),
        ("a", first.base_url),
        ("c", second.base_url),
    ]
    assert catalog.endpoint(models[2]).name == second.base_url
    assert catalog.ids_at({first.base_url}) == {"a", "b"}


@pytest.mark.parametrize(
    "behaviour",
    [
        scripted.html(),
        scripted.status(503),
        scripted.status(200, {"detail": "no"}),
        scripted.status(200, {"data": "a"}),
    ],
)
async def test_an_endpoint_that_does_not_answer_hurts_no_other(make: Make, behaviour: Behaviour) -> None:
    async with ScriptedEndpoint(["a"]) as up, ScriptedEndpoint(["b"]) as down:
        down.models_behaviour = behaviour
        catalog = await make(up, down)
        assert [m.id for m in catalog.models()] == ["a"]
        assert not catalog.complete
        down.models_behaviour = None
        await catalog.refresh()
        assert [m.id for m in catalog.models()] == ["a", "b"]
        assert catalog.complete


async def test_the_last_catalogue_outlives_a_restart_and_an_outage(make: Make) -> None:
    async with ScriptedEndpoint([{"id": "a", "max_model_len": 5000}]) as server:
        await make(server)
        await server.stop()
        again = await make(server)
        assert [(m.id, m.context) for m in again.models()] == [("a", 5000)]
        assert again.complete


@pytest.mark.parametrize(
    "listed",
    [
        [],
        {"data": None},
        {"data": [None, 1, {}, {"id": 3}, {"id": ""}, {"id": "x" * 500}, {"id": "a\nb"}]},
        {"data": [{"id": "arena-model", "owned_by": "arena"}, {"id": "text-embedding-3-small"}, {"id": "whisper-1"}]},
    ],
)
async def test_what_is_no_model_is_left_out(make: Make, listed: object) -> None:
    async with ScriptedEndpoint() as server:
        server.models_behaviour = scripted.status(200, listed)
        catalog = await make(server)
    assert catalog.models() == []
    assert catalog.complete


async def test_odd_entries_hurt_no_others(make: Make) -> None:
    odd = {"id": "odd", "owned_by": ["?"], "architecture": 3, "capabilities": [], "info": 1, "context_length": -1}
    async with ScriptedEndpoint([odd, "a"]) as server:
        catalog = await make(server)
    assert [m.id for m in catalog.models()] == ["odd", "a"]


# -- what each can do -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entry", "vision", "context"),
    [
        ({"architecture": {"input_modalities": ["text", "image"]}, "context_length": 9000}, True, 9000),
        ({"architecture": {"input_modalities": ["text"]}, "top_provider": {"context_length": 8000}}, False, 8000),
        ({"max_model_len": 4096}, None, 4096),
        ({"capabilities": {"vision": False}, "max_context_length": 32000}, False, 32000),
        ({"supports_image_input": True, "context_length": 16384}, True, 16384),
        ({"info": {"meta": {"capabilities": {"vision": False}}}}, False, None),
        ({"info": {"meta": {}}}, True, None),
        ({"context_window": 131072}, None, 131072),
        ({}, None, None),
    ],
    ids=["OpenRouter", "OpenRouter text", "vLLM", "Mistral", "Fireworks", "Open WebUI", "untold", "Groq", "OpenAI"],
)
async def test_what_lists_tell(entry: dict[str, Any], vision: bool | None, context: int | None) -> None:
    async with ScriptedEndpoint([{"id": "m", **entry}]) as server, Endpoint(server.base_url) as endpoint:
        (told,) = await models_of(endpoint)
    assert (told.vision, told.context) == (vision, context)


TAG = {
    "modified_at": "2026-10-01T12:00:00.0Z",
    "size": 3_338_801_804,
    "digest": "a2af6cc3eb7f",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "gemma3",
        "parameter_size": "4.3B",
        "quantization_level": "Q4_K_M",
        "families": ["gemma3"],
    },
}


async def test_what_ollama_tells() -> None:
    shows: dict[str, Any] = {
        "seeing": {"capabilities": ["completion", "vision"], "model_info": {"llama.context_length": 131072}},
        "loaded": {"capabilities": ["completion"], "model_info": {"qwen.context_length": 131072}},
        "set": {"capabilities": ["vision"], "parameters": 'stop "x"\nnum_ctx    16384', "model_info": {}},
        "tiny": {"capabilities": ["vision"], "model_info": {"gemma.context_length": 2048}},
    }
    pages: dict[str, object] = {
        "/api/ps": {"models": [{"model": "loaded", "context_length": 65536}, None]},
        "/api/show": lambda body: shows.get(body["model"]),
        "/api/tags": {"models": [{**TAG, "name": "tiny", "model": "tiny"}, None, {"model": "set", "size": "?"}]},
    }
    entries = [{"id": name, "owned_by": "library"} for name in [*shows, "gone"]]
    async with ScriptedEndpoint(entries, pages=pages) as server, Endpoint(server.base_url) as endpoint:
        listed = await models_of(endpoint)
    tags = {one.id: one.ollama for one in listed}
    assert (tags["tiny"], tags["seeing"]) == (TAG, None)
    assert tags["set"] is not None
    assert (tags["set"]["size"], tags["set"]["details"]["families"]) == (0, [])
    told = {one.id: (one.vision, one.context) for one in listed}
    assert told == {
        "seeing": (True, UNTOLD_LOCAL_CONTEXT),
        "loaded": (False, 65536),
        "set": (True, 16384),
        "tiny": (True, 2048),
        "gone": (None, None),
    }


async def test_what_llama_cpp_tells() -> None:
    pages = {"/props": {"default_generation_settings": {"n_ctx": 8192}, "modalities": {"vision": True}}}
    entry = {"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 131072}}
    async with ScriptedEndpoint([entry], pages=pages) as server, Endpoint(server.base_url) as endpoint:
        (told,) = await models_of(endpoint)
    assert (told.vision, told.context) == (True, 8192)


async def test_what_lm_studio_tells() -> None:
    states = [{"id": "see", "type": "vlm", "loaded_context_length": 8192}, {"id": "read", "type": "llm"}, {"id": []}]
    entries = [{"id": name, "owned_by": "organization_owner"} for name in ("see", "read", "new")]
    async with (
        ScriptedEndpoint(entries, pages={"/api/v0/models": {"data": states}}) as server,
        Endpoint(server.base_url) as endpoint,
    ):
        told = {one.id: (one.vision, one.context) for one in await models_of(endpoint)}
    assert told == {"see": (True, 8192), "read": (False, UNTOLD_LOCAL_CONTEXT), "new": (None, None)}


async def test_a_server_that_only_looks_like_another_is_listed_all_the_same() -> None:
    entry = {"id": "m", "owned_by": "library"}
    async with ScriptedEndpoint([entry]) as server, Endpoint(server.base_url) as endpoint:
        assert [one.id for one in await models_of(endpoint)] == ["m"]
        assert server.asked == ["GET /v1/models", "GET /api/ps"]


@pytest.mark.parametrize(
    ("name", "sees"),
    [
        ("gpt-4-vision-preview", True),
        ("gpt-4", False),
        ("gpt-4o-mini", True),
        ("gpt-5.1", True),
        ("gpt-oss:20b", False),
        ("o3", True),
        ("o3-mini", False),
        ("openai/o4-mini", True),
        ("claude-sonnet-4-5", True),
        ("google/gemini-2.5-pro", True),
        ("gemma3:1b", False),
        ("gemma3:12b", True),
        ("llama3.2-vision:11b", True),
        ("llama3.2:3b", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("qwen3:14b", False),
        ("llava:13b", True),
        ("mistral-small-3.2-24b", True),
        ("mistral-7b", False),
        ("deepseek-r1", False),
    ],
)
def test_well_known_names(name: str, sees: bool) -> None:
    known = well_known(name)
    assert known is not None
    assert known[0] == sees


async def test_told_beats_known_beats_assumed_and_experience_beats_all(make: Make, store: SQLiteStore) -> None:
    told = {"id": "gpt-4", "capabilities": {"vision": True}, "context_length": 50_000}
    async with ScriptedEndpoint([told, "gpt-4o", "house-model"]) as server:
        catalog = await make(server)
        found = {m.id: (m.vision, not m.guessed_to_see, m.context, m.pictures_per_call) for m in catalog.models()}
        assert found == {
            "gpt-4": (True, True, 50_000, PICTURES_PER_CALL),
            "gpt-4o": (True, True, 128_000, PICTURES_PER_CALL),
            "house-model": (True, False, ASSUMED_CONTEXT, PICTURES_PER_CALL),
        }
        await Learned(store).keep("gpt-4", Facts(cannot_see=True, context=10_000, pictures=2))
        await Learned(store).keep("gpt-4o", Facts(context=200_000))
        again = await make(server)
    assert again.get("gpt-4").vision is False
    assert (again.get("gpt-4").context, again.get("gpt-4").pictures_per_call) == (10_000, 2)
    assert again.get("gpt-4o").context == 128_000


async def test_no_endpoint_decides_how_much_memory_a_call_takes(make: Make) -> None:
    async with ScriptedEndpoint([{"id": "m", "pictures_per_call": 10**6}]) as server:
        catalog = await make(server)
    assert catalog.get("m").pictures_per_call == MOST_PICTURES


async def test_a_store_that_cannot_be_written_costs_no_answer(make: Make, store: SQLiteStore) -> None:
    async with ScriptedEndpoint(["m"]) as server:
        catalog = await make(server, refresh=False)
        await store.close()
        await catalog.refresh()
        endpoint = catalog.endpoint(catalog.get("m"))
        await endpoint.learned.keep("m", Facts(no_temperature=True))
    assert endpoint.learned.of("m").no_temperature


async def test_lessons_are_doubted_after_a_day(store: SQLiteStore) -> None:
    await Learned(store).keep("m", Facts(no_temperature=True))
    for later, facts in ((FORGOTTEN_AFTER - 60, Facts(no_temperature=True)), (FORGOTTEN_AFTER + 60, Facts())):
        learned = Learned(store, clock=lambda later=later: time.time() + later)  # type: ignore[misc]
        await learned.load()
        assert learned.of("m") == facts


# -- which one a task gets --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("models", "preferred", "default"),
    [
        (["gpt-4o", "gpt-4-vision"], "", "gpt-4-vision"),
        (["gpt-3.5-turbo", "house-model", "gpt-4o"], "", "gpt-4o"),
        (["gpt-3.5-turbo", "house-model"], "", "house-model"),
        (["gpt-3.5-turbo"], "", "gpt-3.5-turbo"),
        (["gpt-4o", "gpt-4-vision"], "gpt-4o", "gpt-4o"),
        (["gpt-4o"], "unlisted", "unlisted"),
    ],
)
async def test_default(make: Make, models: list[str], preferred: str, default: str) -> None:
    async with ScriptedEndpoint(models) as server:
        catalog = await make(server, preferred=preferred)
    assert catalog.choose("", anyone) == default
    assert catalog.choose(default, anyone) == default
    assert first(catalog, default, needs_vision=False) == default


async def test_unknown_models_are_refused_by_name_of_those_there_are(make: Make) -> None:
    async with ScriptedEndpoint([f"model-{n:02}" for n in range(30)]) as server:
        catalog = await make(server)
    with pytest.raises(InvalidValue) as caught:
        catalog.choose("nope\n", anyone)
    assert "model-00, model-01" in caught.value.message
    assert caught.value.message.endswith("model-19 and 10 more")


async def test_while_an_endpoint_never_answered_a_named_model_waits(make: Make) -> None:
    async with ScriptedEndpoint(["a"]) as server:
        await server.stop()
        catalog = await make(server)
        assert catalog.choose("anything", anyone) == "anything"
        with pytest.raises(UpstreamUnavailable) as waits:
            first(catalog, "anything", needs_vision=False)
        assert waits.value.endpoint_down
        with pytest.raises(Unavailable):
            catalog.choose("", anyone)
        await server.start()
        await catalog.refresh()
        with pytest.raises(InvalidValue):
            catalog.choose("anything", anyone)
        assert first(catalog, "anything", needs_vision=False) == "a", "a task that was accepted is answered"


async def test_pictures_go_to_a_model_that_sees(make: Make) -> None:
    async with ScriptedEndpoint(["gpt-4", "house-model", "gpt-4o"]) as server:
        catalog = await make(server)
    assert first(catalog, "gpt-4", needs_vision=False) == "gpt-4"
    assert first(catalog, "gpt-4", needs_vision=True) == "gpt-4o"
    assert first(catalog, "house-model", needs_vision=True) == "house-model"


async def test_a_blind_default_does_not_get_the_pictures(make: Make) -> None:
    async with ScriptedEndpoint(["gpt-4", "gpt-4o"]) as server:
        catalog = await make(server, preferred="gpt-4")
    assert catalog.choose("", anyone) == "gpt-4"
    assert first(catalog, "gpt-4", needs_vision=True) == "gpt-4o"


async def test_where_nobody_sees_that_is_said(make: Make) -> None:
    async with ScriptedEndpoint(["gpt-4"]) as server:
        catalog = await make(server)
    with pytest.raises(CannotSee):
        first(catalog, "gpt-4", needs_vision=True)


# -- what the administrator says ---------------------------------------------------------------------------------------
async def test_the_administrator_is_believed_before_anybody_else(make: Make) -> None:
    entries = {"gpt-4": ModelConfig(name="House", vision=True, context=5_000), "gpt-4o": ModelConfig(max_tokens=5)}
    told = {"id": "gpt-4", "capabilities": {"vision": False}, "context_length": 50_000}
    async with ScriptedEndpoint([told, "gpt-4o"]) as server:
        catalog = await make(server, entries=entries)
    house, other = catalog.models()
    assert (house.name, house.vision, house.context) == ("House", True, 5_000)
    assert (other.name, other.vision, other.context) == ("gpt-4o", True, 128_000)
    assert house.sources == {"name": "entry", "vision": "entry", "context": "entry", "pictures_per_call": "assumed"}
    assert other.sources == {"name": "endpoint", "vision": "table", "context": "table", "pictures_per_call": "assumed"}


async def test_a_refusal_overrules_the_administrator_until_he_says_something_new(make: Make) -> None:
    entries = {"m": ModelConfig(vision=True, context=50_000)}
    async with ScriptedEndpoint(["m"]) as server:
        catalog = await make(server, entries=entries)
        await catalog.endpoint(catalog.get("m")).learned.keep("m", Facts(cannot_see=True, context=9_000, pictures=2))
        again = await make(server, entries=entries)
        model = again.get("m")
        assert (model.vision, model.context, model.pictures_per_call) == (False, 9_000, 2)
        assert {model.sources[name] for name in ("vision", "context", "pictures_per_call")} == {"learned"}
        entries["m"] = ModelConfig(vision=True, context=60_000)
        assert (again.get("m").vision, again.get("m").context) == (True, 60_000)


async def test_a_model_that_the_administrator_names_is_there_once_every_endpoint_has_told(make: Make) -> None:
    entries = {"new/one:7b": ModelConfig(name="New", vision=False)}
    async with ScriptedEndpoint(["a"]) as one, ScriptedEndpoint(["b"]) as two:
        await two.stop()
        catalog = await make(one, two, entries=entries)
        assert catalog.get("new/one:7b") is None
        assert catalog.described("new/one:7b").endpoint == ""
        await two.start()
        await catalog.refresh()
        assert [model.id for model in catalog.models()] == ["a", "b", "new/one:7b"]
        assert catalog.choose("new/one:7b", anyone) == "new/one:7b"
        assert catalog.endpoint_of("new/one:7b") == one.base_url
        assert catalog.ids_at({one.base_url}) == {"a", "new/one:7b"}
        assert not catalog.lists("new/one:7b")
        one.models.append("new/one:7b")
        await catalog.refresh()
        assert [model.id for model in catalog.models()] == ["a", "new/one:7b", "b"]


# -- who may use it ----------------------------------------------------------------------------------------------------
def all_but(*ids: str) -> Callable[[str], bool]:
    return lambda model_id: model_id not in ids


async def test_no_model_is_chosen_for_somebody_who_may_not_use_it(make: Make) -> None:
    async with ScriptedEndpoint(["gpt-4o", "gpt-4-vision", "gpt-4"]) as server:
        catalog = await make(server, preferred="gpt-4o")
    assert catalog.choose("", anyone) == "gpt-4o"
    assert catalog.choose("", all_but("gpt-4o")) == "gpt-4-vision"
    assert catalog.choose("", all_but("gpt-4o", "gpt-4-vision")) == "gpt-4"
    for model_id, may in (("gpt-4o", all_but("gpt-4o")), ("", all_but("gpt-4o", "gpt-4-vision", "gpt-4"))):
        with pytest.raises(Forbidden, match="Model not permitted"):
            catalog.choose(model_id, may)
    with pytest.raises(InvalidValue) as unknown:
        catalog.choose("nope", all_but("gpt-4o"))
    assert "gpt-4o" not in unknown.value.message


async def test_pictures_go_to_no_model_that_their_owner_may_not_use(make: Make) -> None:
    async with ScriptedEndpoint(["gpt-4", "gpt-4o", "llava"]) as server:
        catalog = await make(server, preferred="gpt-4o")

    def seen_by(may: Callable[[str], bool]) -> str:
        return str(catalog.candidates("gpt-4", may, needs_vision=True)[0].model.id)

    assert seen_by(anyone) == "gpt-4o"
    assert seen_by(all_but("gpt-4o")) == "llava"
    with pytest.raises(CannotSee):
        seen_by(all_but("gpt-4o", "llava"))


async def test_what_nobody_has_any_more_is_answered_by_the_owners_default(make: Make) -> None:
    async with ScriptedEndpoint(["gpt-4o", "gpt-4"]) as server:
        catalog = await make(server)
    for may, model in ((anyone, "gpt-4o"), (all_but("gpt-4o"), "gpt-4")):
        (one,) = catalog.candidates("gone", may, needs_vision=False)
        assert one.model.id == model
        assert "gone" in one.note
    with pytest.raises(ModelError):
        catalog.candidates("gone", lambda _: False, needs_vision=False)


# -- fallbacks ---------------------------------------------------------------------------------------------------------
FALLBACKS = {
    "a": ModelConfig(fallback="b"),
    "b": ModelConfig(fallback="c", vision=False),
    "c": ModelConfig(fallback="a"),
}


@pytest.mark.parametrize(
    ("asked", "may", "needs_vision", "found"),
    [
        ("a", anyone, False, ["a", "b", "c"]),
        ("a", anyone, True, ["a", "c"]),
        ("a", all_but("b"), False, ["a", "c"]),
        ("c", anyone, False, ["c", "a", "b"]),
        ("d", anyone, False, ["d"]),
        ("b", anyone, True, ["a", "c"]),
    ],
    ids=["in order", "seeing", "permitted", "in a circle", "none", "of the one that sees"],
)
async def test_fallbacks_follow_in_order_each_once(
    make: Make, asked: str, may: Callable[[str], bool], needs_vision: bool, found: list[str]
) -> None:
    async with ScriptedEndpoint(["a", "b", "c", "d"]) as server:
        catalog = await make(server, entries=FALLBACKS)
    candidates = catalog.candidates(asked, may, needs_vision=needs_vision)
    assert [one.model.id for one in candidates] == found
    assert candidates[0].note == ""
    assert all(f"its fallback {one.model.id} did" in one.note for one in candidates[1:])


async def test_a_fallback_that_is_known_answers_before_the_models_own_endpoint_has_ever_told(make: Make) -> None:
    async with ScriptedEndpoint(["a"]) as one, ScriptedEndpoint(["b"]) as two:
        await two.stop()
        catalog = await make(one, two, entries={"b": ModelConfig(fallback="a")})
        (only,) = catalog.candidates("b", anyone, needs_vision=False)
    assert (only.model.id, only.note) == ("a", "b did not answer; its fallback a did.")


# -- looking for them --------------------------------------------------------------------------------------------------
async def test_those_are_found_that_list_models_and_none_is_sent_a_key() -> None:
    async with (
        ScriptedEndpoint(["a"]) as one,
        ScriptedEndpoint([]) as empty,
        ScriptedEndpoint() as page,
        ScriptedEndpoint() as gone,
        ScriptedEndpoint(key=scripted.KEY) as closed,
    ):
        page.models_behaviour = scripted.html()
        await gone.stop()
        urls = [server.base_url for server in (gone, page, one, closed, empty)]
        assert await found_here(urls) == [one.base_url, empty.base_url]
        assert closed.asked == ["GET /v1/models"]


def test_the_usual_ports_are_of_this_machine() -> None:
    assert {urlsplit(url).hostname for url in LOCAL_URLS} == {"127.0.0.1"}
    assert [urlsplit(url).port for url in LOCAL_URLS] == [11434, 1234, 8000, 8080]


# -- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ([], [None, None]),
        (["k"], ["Bearer k", "Bearer k"]),
        (["k1", "k2"], ["Bearer k1", "Bearer k2"]),
        (["", "k2"], [None, "Bearer k2"]),
    ],
)
async def test_keys_go_to_their_endpoints(keys: list[str], sent: list[str | None]) -> None:
    async with ScriptedEndpoint() as first, ScriptedEndpoint() as second:
        for endpoint in endpoints_of([first.base_url, second.base_url], keys, Learned()):
            async with endpoint:
                await endpoint.ask("m", [{"role": "user", "content": "?"}], temperature=0, max_tokens=1)
        assert [server.calls[0].headers.get("Authorization") for server in (first, second)] == sent


def test_a_wrong_number_of_keys_stops_the_start() -> None:
    with pytest.raises(StartError, match="3 keys for 2 addresses"):
        endpoints_of(["http://a/v1", "http://b/v1"], ["1", "2", "3"], Learned())


def test_an_address_given_twice_is_one_endpoint() -> None:
    assert len(endpoints_of(["http://a/v1", "http://a/v1/"], [], Learned())) == 1
