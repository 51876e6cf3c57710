"""The server from its first request to its last, with the signals that a process gets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from docv2.bootstrap import Services
from docv2.errors import StartError
from docv2.web.app import listening, serve
from tests.waiting import until
from tests.web.site import Site


@asynccontextmanager
async def serving(services: Services) -> AsyncIterator[tuple[asyncio.Task[None], str]]:
    """The running server and its URL, on a port of its own."""
    urls: list[str] = []
    services = replace(services, settings=services.settings.model_copy(update={"port": 0}))
    running = asyncio.create_task(serve(services, ready=urls.append))
    await until(lambda: urls or running.done())
    try:
        yield running, urls[0]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends(site: Site, number: signal.Signals) -> None:
    async with serving(site.services) as (running, url):
        async with site.session.get(f"{url}/api/version") as response:
            assert response.status == 200
        os.kill(os.getpid(), number)
        await asyncio.wait_for(running, 10)
        with pytest.raises(aiohttp.ClientConnectionError):
            await site.session.get(f"{url}/api/version")


def held_drain(site: Site, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], Callable[[], None]]:
    """Tasks that do not end by themselves: what the pool is given to drain, and a way to end it."""
    given: list[float] = []
    ended = asyncio.Event()

    async def drain(seconds: float) -> None:
        given.append(seconds)
        site.services.pool.draining = True
        if seconds == 0:
            ended.set()
        await ended.wait()

    monkeypatch.setattr(site.services.pool, "drain", drain)
    return given, ended.set


async def test_while_tasks_finish_everything_but_process_answers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given, end = held_drain(site, monkeypatch)
    task_id = await site.accepted()
    async with serving(site.services) as (running, url):
        site.url = url
        looking = asyncio.create_task(site.status(task_id, wait=60))
        await until(lambda: site.services.changes._waiting)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: given)
        assert (await site.submit())[0] == 503
        assert (await site.call("GET", "/api/v2/models"))[0] == 200
        assert (await site.status(task_id))["status"] == "queued"
        assert not looking.done()
        end()
        await asyncio.wait_for(running, 10)
        assert (await looking)["status"] == "queued"
    assert given == [site.services.settings.drain_seconds]


async def test_a_second_signal_ends_the_drain(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = held_drain(site, monkeypatch)
    async with serving(site.services) as (running, _):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: given)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 10)
    assert given == [site.services.settings.drain_seconds, 0]


async def test_an_address_that_is_taken_is_told_in_one_line(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as caught:
            async with listening(site.services, "127.0.0.1", port):
                pass
    assert caught.value.message == f"cannot listen on 127.0.0.1:{port}: Address already in use"


async def test_a_host_that_is_none_is_told_in_one_line(site: Site) -> None:
    with pytest.raises(StartError) as caught:
        async with listening(site.services, "no such host", 0):
            pass
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("cannot listen on no such host:0: ")
