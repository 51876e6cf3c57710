"""Models, health and version: what the service tells about itself."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

import docv2
from docv2.errors import DiskFull, Unavailable
from tests.web.site import Site


async def health(site: Site) -> tuple[int, dict[str, Any]]:
    status, body, _ = await site.call("GET", "/api/v2/health", key=None)
    assert abs(time.time() - body["timestamp"]) < 60
    return status, body


async def test_a_service_that_has_all_it_needs_is_healthy(site: Site) -> None:
    await site.accepted()
    await site.accepted()
    await site.claim()
    status, body = await health(site)
    del body["timestamp"]
    assert (status, body) == (
        200,
        {
            "status": "healthy",
            "version": docv2.__version__,
            "services": {"database": True, "storage": True, "models": True, "api_v2": True},
            "memory_usage": {"used_percent": 10.0, "available_mb": 92160, "total_mb": 102400},
            "active_tasks": 1,
            "queue_length": 1,
            "reasons": [],
        },
    )


async def test_short_memory_degrades(site: Site) -> None:
    await site.use_memory(85)
    status, body = await health(site)
    assert (status, body["status"], body["reasons"]) == (200, "degraded", ["Memory is short: 85 % in use"])


async def test_disabled_degrades(site: Site) -> None:
    site.configure(enabled=False)
    status, body = await health(site)
    assert (status, body["status"], body["services"]["api_v2"]) == (200, "degraded", False)


async def test_a_default_model_that_nobody_lists_degrades(site: Site) -> None:
    site.configure(admin_model="gpt-9")
    status, body = await health(site)
    assert (status, body["status"]) == (200, "degraded")
    assert body["reasons"] == ["The default model gpt-9 is not listed by any endpoint"]


async def test_an_endpoint_that_is_left_alone_degrades(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.health, "blocked_models", lambda: {"sees"})
    assert (await health(site))[1]["status"] == "degraded"


async def test_a_database_that_cannot_be_read_is_unhealthy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone() -> None:
        raise Unavailable("The database cannot be used")

    monkeypatch.setattr(site.store, "depth", gone)
    status, body = await health(site)
    assert (status, body["status"], body["services"]["database"]) == (503, "unhealthy", False)
    assert (body["active_tasks"], body["queue_length"]) == (0, 0)


async def test_a_storage_that_cannot_be_written_is_unhealthy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full() -> None:
        raise DiskFull("Not enough disk space")

    monkeypatch.setattr(site.services.storage, "check", full)
    status, body = await health(site)
    assert (status, body["status"], body["services"]["storage"]) == (503, "unhealthy", False)


async def test_a_draining_server_is_unhealthy(site: Site) -> None:
    site.services.pool.draining = True
    status, body = await health(site)
    assert (status, body["status"], body["services"]["api_v2"]) == (503, "unhealthy", False)


async def test_the_models_are_listed_with_what_they_can_do(site: Site) -> None:
    status, body, _ = await site.call("GET", "/api/v2/models", key=None)
    assert (status, body) == (
        200,
        {
            "models": [
                {"id": "sees", "name": "It Sees", "vision_capable": True, "capabilities": ["vision", "text"]},
                {"id": "reads", "name": "It Reads", "vision_capable": False, "capabilities": ["text"]},
            ],
            "default_model": "sees",
            "vision_models": ["sees"],
            "model_configs": {
                "sees": {"temperature": 0.7, "max_tokens": 8000, "vision_capable": True},
                "reads": {"temperature": 0.7, "max_tokens": 8000, "vision_capable": False},
            },
        },
    )


async def test_the_default_is_the_administrators(site: Site) -> None:
    site.configure(admin_model="reads")
    assert (await site.call("GET", "/api/v2/models"))[1]["default_model"] == "reads"
    assert (await site.submit())[1]["config_applied"]["model"] == "reads"


async def test_before_any_endpoint_answered_there_is_no_default(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.catalog, "_index", {})
    monkeypatch.setattr(site.services.catalog, "_told", {})
    _, body, _ = await site.call("GET", "/api/v2/models")
    assert (body["models"], body["default_model"], body["vision_models"]) == ([], "", [])
    assert (await health(site))[1]["services"]["models"] is False
    assert (await site.submit())[0] == 503
    assert (await site.submit(model="named"))[0] == 200


async def test_the_embedded_reader_degrades(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    services = replace(site.services, embedded=True)
    from docv2.web.system import _impairments

    assert "embedded reader" in _impairments(services)[0]


async def test_the_version(site: Site) -> None:
    assert (await site.call("GET", "/api/version", key=None))[:2] == (200, {"version": docv2.__version__})
