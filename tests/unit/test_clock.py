"""Each model has its own time for a step, a task that goes to another has that one's, and what takes long is told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from docv2.config import Config
from docv2.configparts import ModelConfig
from docv2.errors import OutOfTime
from docv2.store.sqlite import SQLiteStore
from docv2.worker.clock import step_clock
from tests.conformance.samples import running

CONFIG = Config(timeout=300, model_configs={"hasty": ModelConfig(timeout=0.01)})


async def test_a_step_takes_no_longer_than_its_model_may(store: SQLiteStore) -> None:
    with pytest.raises(OutOfTime, match=r"within 0.01 seconds"):
        async with step_clock(CONFIG, await running(store, model="hasty")):
            await asyncio.Event().wait()


async def test_a_task_that_is_put_to_another_model_has_the_time_of_that(store: SQLiteStore) -> None:
    async with step_clock(CONFIG, await running(store, model="hasty")) as clock:
        clock.put_to("patient")
        clock.step()
        assert clock.step_seconds == 300
    patient = await running(store, model="patient")

    async def put_to_hasty() -> None:
        async with step_clock(CONFIG, patient) as clock:
            clock.put_to("hasty")
            await asyncio.Event().wait()

    with pytest.raises(OutOfTime, match=r"within 0.01 seconds"):
        await put_to_hasty()


async def test_a_step_that_takes_more_than_half_of_its_time_is_logged_as_slow(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(timeout=300, model_configs={"ponders": ModelConfig(timeout=100)})
    task = await running(store, model="ponders")
    loop = asyncio.get_running_loop()
    passed = [loop.time()]
    with caplog.at_level(logging.WARNING, "docv2.worker.clock"):
        async with step_clock(config, task) as clock:
            monkeypatch.setattr(loop, "time", lambda: sum(passed))
            for seconds in (49, 51, 49):
                passed.append(seconds)
                clock.step()
            monkeypatch.undo()
    assert [record.getMessage() for record in caplog.records] == [
        "slow: a page or a part took 51 of the 100 seconds it may take"
    ]
