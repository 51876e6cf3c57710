"""What Prometheus reads: the guide's names, for whom, and how many series there can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docv2.errors import Unavailable
from docv2.store.sqlite import SQLiteStore
from docv2.telemetry import metrics
from tests.web.site import Site, open_site

TOKEN = "lets-the-scraper-in-0123456789"


async def read(site: Site) -> dict[str, float]:
    """Every series by name and labels."""
    async with site.session.get(site.url + "/metrics", params={"module": "api_v2"}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    return {
        sample.name + "".join(f"|{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_guides_metrics_are_there_under_their_names_and_without_labels(site: Site) -> None:
    await site.accepted()
    await site.accepted()
    await site.claim()
    await site.use_memory(87.5)
    found = await read(site)
    assert found["api_v2_active_tasks_total"] == 1
    assert found["api_v2_queue_length"] == 1
    assert found["api_v2_memory_usage_percent"] == 87.5
    assert found["docv2_memory_level"] == 1
    assert found["docv2_accepting"] == 1
    for name in ("api_v2_error_rate", "api_v2_completed_tasks_total", "api_v2_processing_time_seconds_count"):
        assert name in found
    assert not any(name.endswith("_created") for name in found)


async def test_every_end_counts_and_only_failures_are_errors(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await read(site)
    task_id = await site.accepted()
    status, _, _ = await site.call("DELETE", f"/api/v2/tasks/{task_id}")
    assert status == 200
    after = await read(site)
    assert after["api_v2_completed_tasks_total"] == before["api_v2_completed_tasks_total"] + 1
    cancelled = "docv2_failed_tasks_total|error_type=cancelled"
    assert after[cancelled] == before[cancelled] + 1
    assert after["api_v2_error_rate"] == 0, "who changes his mind is no fault of the service"
    await site.accepted()
    await site.store.fail(await site.claim(), "The file is encrypted.", "processing_error")
    assert (await read(site))["api_v2_error_rate"] == 0.5
    monkeypatch.setattr(metrics, "ERROR_WINDOW", -1.0)
    assert (await read(site))["api_v2_error_rate"] == 0, "it is over the last minutes alone"


async def test_a_client_cannot_make_series(site: Site) -> None:
    await site.call("GET", "/api/v2/status/00000000-0000-4000-8000-000000000000")
    for number in range(50):
        await site.call("GET", f"/made-up/{number}")
    async with site.session.request("PROPFIND", site.url + "/coffee") as response:
        assert response.status == 404
    found = await read(site)
    assert found["docv2_http_requests_total|method=GET|route=unknown|status=404"] >= 50
    assert "docv2_http_requests_total|method=GET|route=/api/v2/status/{task_id}|status=404" in found
    assert not any("made-up" in name or "PROPFIND" in name for name in found)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_who_comes_through_a_proxy_is_not_on_this_machine(site: Site, header: str) -> None:
    async with site.session.get(site.url + "/metrics", headers={header: "127.0.0.1"}) as response:
        assert response.status == 401
        assert (await response.json())["error_type"] == "auth_error"


async def test_a_token_opens_it_from_anywhere(tmp_path: Path, store: SQLiteStore) -> None:
    async with open_site(tmp_path, store, metrics_token=TOKEN) as site:
        for token, wanted in ((TOKEN, 200), (TOKEN[:-1], 401), ("", 401), (site.key, 401)):
            headers = {"X-Forwarded-For": "203.0.113.7", "Authorization": f"Bearer {token}"}
            async with site.session.get(site.url + "/metrics", headers=headers) as response:
                assert response.status == wanted


async def test_without_its_database_the_server_still_tells_how_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone() -> None:
        raise Unavailable("The database cannot be used at the moment.")

    monkeypatch.setattr(site.store, "depth", gone)
    found = await read(site)
    assert found["docv2_database_up"] == 0
    assert found["docv2_disk_free_bytes"] > 0
