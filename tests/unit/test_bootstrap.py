"""Where the endpoints come from, as a start finds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from docv2 import bootstrap
from docv2.errors import StartError
from docv2.llm.capabilities import found_here
from docv2.settings import Settings, load
from tests.endpoint import KEY, ScriptedEndpoint


def configured(tmp_path: Path, urls: str, keys: str = "", **more: Any) -> Settings:
    named = {"data_dir": tmp_path / "data", "openai_base_urls": urls, "openai_keys": keys}
    return Settings.model_validate({**named, **more})


async def never() -> Sequence[str]:
    raise AssertionError("nothing is looked for unasked")


async def test_asked_to_a_start_takes_what_it_finds_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedEndpoint(["llava"]) as endpoint:
        monkeypatch.setattr(bootstrap, "found_here", partial(found_here, [endpoint.base_url]))
        asked = configured(tmp_path, "auto", f"{KEY};{KEY}")
        async with bootstrap.open_services(asked) as services:
            assert not services.embedded
            assert [model.id for model in services.catalog.models()] == ["llava"]
            model = services.catalog.get("llava")
            assert model is not None
            await services.catalog.endpoint(model).ask("llava", [], temperature=0, max_tokens=1)
        assert "Authorization" not in endpoint.calls[0].headers, "a key is for an address that was named"


async def test_where_nothing_is_found_the_embedded_reader_answers_unless_it_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "found_here", partial(found_here, []))
    async with bootstrap.open_services(configured(tmp_path, "Auto")) as services:
        assert services.embedded
        await services.pool.go_round()  # a start that is stopped before it ran leaves coroutines behind
    refusing = configured(tmp_path, "auto", allow_embedded_reader=False)
    with pytest.raises(StartError, match="no model endpoint answers on this machine"):
        async with bootstrap.open_services(refusing):
            pass


async def test_unasked_nothing_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "found_here", never)
    async with ScriptedEndpoint(["a"]) as endpoint:
        for urls in (endpoint.base_url, ""):
            async with bootstrap.open_services(configured(tmp_path, urls)) as services:
                assert services.embedded == (not urls)
                await services.pool.go_round()


def test_auto_stands_alone() -> None:
    with pytest.raises(StartError, match="or all of it: auto"):
        load({"OPENAI_API_BASE_URLS": "auto;http://a/v1"})
