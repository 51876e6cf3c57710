"""The runtime configuration: where its values come from, how they change, and what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from docv2 import settings as process_settings
from docv2.config import Config, RuntimeConfig, automatic_concurrency, from_settings, merged, normalized, validated
from docv2.errors import BadRequest, InvalidValue, NotFound, StartError
from docv2.store.base import User
from docv2.store.sqlite import SQLiteStore

GIB = 1024**3
PEOPLE = [("ada", "user"), ("mary", "user"), ("grace", "admin")]
GUIDE = {
    "temperature": 0.7,
    "max_tokens": 8000,
    "enable_vision": True,
    "enable_multimodal": True,
    "default_prompt_template": "Look at the document, then answer: {prompt}",
    "supported_formats": ["pdf", "docx", "txt", "md", "png", "jpg", "jpeg", "gif"],
    "blocked_extensions": [".exe", ".SH"],
    "max_file_size_mb": 50,
    "rate_limits": {"per_minute": 50, "per_hour": 1000, "per_day": 10000},
    "memory_management": {"cleanup_after_processing": True, "monitor_usage": True, "emergency_stop_threshold": 95},
    "model_configs": {"claude-3-haiku": {"temperature": 0.5, "max_tokens": 4096, "timeout": 180}},
}
"""Every key that the administrators' guide has."""


def loaded(**environment: str) -> Config:
    return from_settings(process_settings.load(environment), total_memory=32 * GIB)


def test_every_setting_of_the_guide_may_stand_in_the_environment() -> None:
    config = loaded(API_V2_ADMIN_CONFIG=json.dumps(GUIDE))
    assert config.max_file_size == 50 * 1024**2
    assert config.blocked_extensions == ("exe", "sh")
    assert config.model("claude-3-haiku").timeout == 180
    assert config.asked("What of {0} and {prompt}?") == "Look at the document, then answer: What of {0} and {prompt}?"


def test_a_variable_of_its_own_wins_over_the_same_setting_in_the_json() -> None:
    config = loaded(API_V2_ADMIN_CONFIG='{"timeout": 60, "max_concurrent": 2, "temperature": 1}', API_V2_TIMEOUT="90")
    assert (config.timeout, config.max_concurrent, config.temperature) == (90, 2, 1)


def test_the_caches_have_variables_of_their_own() -> None:
    off = loaded()
    assert (off.model_cache.enabled, off.model_cache.ttl) == (False, 3600)
    assert (off.processing_cache.enabled, off.processing_cache.ttl) == (False, 7200)
    given = '{"model_cache": {"ttl": 5}, "processing_cache": {"enabled": true, "ttl": 7, "max_bytes": 9}}'
    config = loaded(
        API_V2_ADMIN_CONFIG=given, ENABLE_MODEL_CACHE="true", MODEL_CACHE_TTL="60", ENABLE_PROCESSING_CACHE="false"
    )
    assert (config.model_cache.enabled, config.model_cache.ttl) == (True, 60)
    cache = config.processing_cache
    assert (cache.enabled, cache.ttl, cache.max_bytes) == (False, 7, 9)


def test_what_nobody_set_is_the_default_and_the_number_of_tasks_follows_from_the_memory() -> None:
    assert loaded() == Config(max_concurrent=6)
    assert automatic_concurrency(64 * GIB, cores=4) == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"temprature": 1}', "unknown setting temprature"),
        ('{"memory_management": {"monitor": true}}', "unknown setting memory_management.monitor; known are: cleanup"),
        ('{"temperature": 3}', "temperature must be less than or equal to 2"),
        ('{"max_tokens": "8000"}', "max_tokens must be a integer"),
        ('{"memory_management": {"hold_threshold": 80}}', "must not descend"),
        ('{"default_prompt_template": "Answer"}', "must contain {prompt}"),
        ('{"max_file_size": 5, "max_file_size_mb": 50}', "one setting"),
        ("[1]", "must be a JSON object"),
        ("{", "must be a JSON object"),
    ],
)
def test_a_wrong_admin_config_stops_the_start_with_one_line(text: str, words: str) -> None:
    with pytest.raises(StartError, match="API_V2_ADMIN_CONFIG") as error:
        loaded(API_V2_ADMIN_CONFIG=text)
    assert words in error.value.message
    assert "\n" not in error.value.message


def test_changes_go_into_objects_and_null_takes_away() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None, "e": 4}, "d": None}) == {"a": {"c": 2, "e": 4}}


def test_the_two_names_of_the_file_size_are_one_setting() -> None:
    assert normalized({"max_file_size_mb": 1.5}) == {"max_file_size": 1_572_864}
    assert normalized({"max_file_size_mb": 1, "max_file_size": 1_048_576}) == {"max_file_size": 1_048_576}
    with pytest.raises(InvalidValue, match="one setting"):
        normalized({"max_file_size_mb": 1, "max_file_size": 1})
    for wrong in ("50", True, 0, -1, 1e300):
        with pytest.raises(InvalidValue, match="number above 0"):
            normalized({"max_file_size_mb": wrong})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidValue) as error:
        validated({"temperature": -1, "rate_limits": {"per_day": 0}, "supported_formats": ["exe"]})
    for words in ("temperature", "rate_limits.per_day", "supported_formats.0 must be one of pdf"):
        assert words in error.value.message


def test_who_may_use_a_model_is_said_by_address_and_administrators_always_may() -> None:
    config = validated({"model_configs": {"m": {"users": ["Ada@Example.org"]}, "none": {"users": []}}})
    ada, mary, grace = (User(name, f"{name}@EXAMPLE.org", name, role, True, 0.0) for name, role in PEOPLE)
    may = [[config.permits(user, model) for user in (None, ada, mary, grace)] for model in ("m", "none", "other")]
    assert may == [[False, True, False, True], [False, False, False, True], [True] * 4]


def test_a_model_is_not_its_own_fallback() -> None:
    with pytest.raises(InvalidValue, match="the fallback of the model m must be another one"):
        validated({"model_configs": {"m": {"fallback": "m"}}})


# -- at run time ------------------------------------------------------------------------------------------------------
BASE = Config(timeout=60.0)


async def test_a_change_is_in_force_at_once_and_after_a_restart(store: SQLiteStore) -> None:
    config, heard = RuntimeConfig(BASE, store), list[Config]()
    config.on_change.append(heard.append)
    made = await config.change({"temperature": 0.1, "rate_limits": {"per_day": 5}}, by="ada@example.org")
    assert (made.version, made.changed_by) == (1, "ada@example.org")
    assert heard == [config.current]
    assert (config.current.temperature, config.current.rate_limits.per_day, config.current.timeout) == (0.1, 5, 60)

    after = RuntimeConfig(BASE.model_copy(update={"timeout": 70.0}), store)
    await after.load()
    assert (after.current.temperature, after.current.timeout) == (0.1, 70)
    await after.change({"temperature": None}, by="bob@example.org")
    assert after.current.temperature == BASE.temperature
    assert after.latest.overrides == {"rate_limits": {"per_day": 5}}


async def test_a_change_with_one_fault_changes_nothing(store: SQLiteStore) -> None:
    config = RuntimeConfig(BASE, store)
    with pytest.raises(InvalidValue):
        await config.change({"temperature": 0.1, "max_tokens": 0}, by="ada")
    with pytest.raises(BadRequest, match="unknown setting colour"):
        await config.change({"temperature": 0.1, "colour": "red"}, by="ada")
    assert config.current == BASE
    assert await store.configurations() == []


async def test_of_changes_at_once_none_is_lost(store: SQLiteStore) -> None:
    mine, theirs = RuntimeConfig(BASE, store), RuntimeConfig(BASE, store)
    await asyncio.gather(
        mine.change({"temperature": 0.1}, by="a"),
        theirs.change({"max_tokens": 7}, by="b"),
        mine.change({"paused": True}, by="c"),
    )
    last = (await store.configurations())[0]
    assert (last.version, last.overrides) == (3, {"temperature": 0.1, "max_tokens": 7, "paused": True})


async def test_an_earlier_version_comes_back_as_a_new_one(store: SQLiteStore) -> None:
    config = RuntimeConfig(BASE, store)
    for temperature in (0.1, 0.2):
        await config.change({"temperature": temperature}, by="ada")
    assert (await config.revert(1, by="bob")).version == 3
    assert config.current.temperature == 0.1
    await config.revert(0, by="bob")
    assert config.current == BASE
    assert [(one.version, one.changes) for one in await config.versions(up_to=3, limit=2)] == [
        (3, {"revert": 1}),
        (2, {"temperature": 0.2}),
    ]
    with pytest.raises(NotFound):
        await config.revert(9, by="bob")


async def test_a_change_by_another_process_is_taken_up(store: SQLiteStore) -> None:
    server, command = RuntimeConfig(BASE, store), RuntimeConfig(BASE, store)
    await command.change({"paused": True}, by="command line")
    await server.take_up()
    assert server.current.paused


async def test_what_no_longer_fits_the_environment_stops_the_start(store: SQLiteStore) -> None:
    await RuntimeConfig(BASE, store).change({"memory_management": {"hold_threshold": 86}}, by="ada")
    higher = validated({"memory_management": {"warning_threshold": 88}})
    with pytest.raises(StartError, match="version 1 of the runtime configuration"):
        await RuntimeConfig(higher, store).load()
