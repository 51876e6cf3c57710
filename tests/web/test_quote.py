"""A quote before paying: true figures, nothing kept, and no way to overload the server with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from docv2 import quote
from docv2.estimate import asked
from docv2.extract.base import read
from docv2.llm import plan
from tests.documents import docx, encoded, encrypted_pdf, mixed_pdf, page_picture, text_pdf
from tests.unit.test_llm_plan import WANTED, model, part, planned
from tests.unit.test_llm_prompt import page
from tests.waiting import until
from tests.web.site import Site


async def quoted(site: Site, content: bytes, filename: str, **fields: Any) -> dict[str, Any]:
    status, body = await site.submit(content, filename, dry_run="true", **fields)
    assert status == 200, body
    assert body["dry_run"] is True
    assert "task_id" not in body
    return dict(body)


async def nothing_is_kept(site: Site, data_dir: Path) -> None:
    assert site.stored() == []
    assert list((data_dir / "work").iterdir()) == []
    assert (await site.store.depth()).waiting == 0


async def test_a_quote_tells_what_the_document_takes_and_keeps_nothing(site: Site, tmp_path: Path) -> None:
    pages = ["A page of print, with some words on it. " * 8] * 3
    body = await quoted(site, mixed_pdf([*pages, page_picture("a scan")]), "report.pdf", max_tokens=500)
    assert body["pages"] == {"total": 4, "text": 3, "picture": 1, "both": 0, "none": 0}
    assert (body["pages_read"], body["parts"], body["calls"]) == (4, 1, 1)
    assert body["model_used"] == "sees"
    assert body["config_applied"] == {"model": "sees", "temperature": 0.7, "max_tokens": 500}
    assert body["file_info"]["filename"] == "report.pdf"
    tokens = body["estimated_tokens"]
    assert 2_700 < tokens["prompt"] < 5_000, "most of it the picture's"
    assert tokens["completion_at_most"] == 500
    assert body["estimated_time"] >= body["estimated_wait"] >= 0
    await nothing_is_kept(site, tmp_path)


async def test_a_quote_counts_parts_and_rounds_of_combining(site: Site, tmp_path: Path) -> None:
    text = ("word " * 100 + "\n") * 2_000  # a megabyte
    body = await quoted(site, text.encode(), "long.txt", max_tokens=1000)
    size = body["pages"]["total"]
    assert size > 300
    assert body["parts"] == -(-len(text) // 3 // 30_000) or body["parts"] in range(11, 16)
    assert body["calls"] == body["parts"] + 1
    assert body["estimated_tokens"]["completion_at_most"] == 1000 * body["parts"] + 1000
    await nothing_is_kept(site, tmp_path)


async def test_a_quote_is_that_of_the_detail_that_is_wanted(site: Site) -> None:
    document = text_pdf(["A page of print, with some words on it. " * 8])
    as_text = await quoted(site, document, "a.pdf", detail="text")
    as_picture = await quoted(site, document, "a.pdf", detail="image")
    assert (as_text["pages"]["text"], as_picture["pages"]["picture"]) == (1, 1)
    assert as_picture["estimated_tokens"]["prompt"] > as_text["estimated_tokens"]["prompt"]


async def test_a_picture_goes_to_a_model_that_sees(site: Site) -> None:
    body = await quoted(site, encoded(page_picture("a scan")), "scan.png", model="reads")
    assert body["config_applied"]["model"] == "reads"
    assert body["model_used"] == "sees"


@pytest.mark.parametrize(
    ("content", "filename", "said"),
    [(encrypted_pdf("secret"), "locked.pdf", "password"), (b"%PDF-1.7\n", "cut.pdf", "damaged")],
    ids=["encrypted", "damaged"],
)
async def test_a_document_that_would_fail_says_so(
    site: Site, tmp_path: Path, content: bytes, filename: str, said: str
) -> None:
    status, body = await site.submit(content, filename, dry_run="true")
    assert (status, body["error_type"]) == (422, "processing_error")
    assert said in body["detail"]
    await nothing_is_kept(site, tmp_path)


async def test_a_quote_refuses_what_a_task_would_be_refused_for(site: Site) -> None:
    for name, value in (("prompt", "x"), ("model", "nobody's"), ("temperature", "9")):
        status, _ = await site.submit(dry_run="true", **{name: value})  # type: ignore[arg-type]
        assert status == 422
    status, _ = await site.submit(b"\x00\x01", "note.exe", dry_run="true")
    assert status == 415


async def test_a_quote_makes_no_use_of_an_idempotency_key(site: Site) -> None:
    for _ in range(2):
        form = aiohttp.FormData({"prompt": "What is it?", "dry_run": "true"})
        form.add_field("file", b"text", filename="note.txt")
        status, _, _ = await site.call("POST", "/api/v2/process", data=form, headers={"Idempotency-Key": "k"})
        assert status == 200
    form = aiohttp.FormData({"prompt": "What is it?"})
    form.add_field("file", b"text", filename="note.txt")
    status, body, _ = await site.call("POST", "/api/v2/process", data=form, headers={"Idempotency-Key": "k"})
    assert (status, "task_id" in body) == (200, True)


async def test_the_wait_is_that_of_the_tail_of_the_queue(site: Site) -> None:
    await site.store.measure("asking", asked("sees", "text/plain"), 1, 10)
    empty = await quoted(site, b"text", "note.txt")
    for _ in range(6):
        await site.accepted(model="sees")
    full = await quoted(site, b"text", "note.txt")
    assert full["estimated_wait"] > empty["estimated_wait"]
    assert full["estimated_time"] - full["estimated_wait"] == pytest.approx(10, abs=1)


# -- bounds -----------------------------------------------------------------------------------------------------------
class Slow:
    """Readings that wait for the test."""

    def __init__(self, pages: int = 0, total: int | None = None) -> None:
        self.under_way = 0
        self.most = 0
        self.go_on = asyncio.Event()
        self.pages = pages
        self.total = total

    async def __call__(self, *args: Any, **options: Any) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            async for page, total in quote_read(*args, **options):
                yield page, self.total or total
                if page.number == self.pages:
                    await asyncio.Event().wait()
            await self.go_on.wait()
        finally:
            self.under_way -= 1


quote_read = read


async def test_few_quotes_are_made_at_once_and_the_rest_are_asked_to_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = Slow()
    monkeypatch.setattr(quote, "read", slow)
    others = [await site.add_user(f"user-{number}@example.org") for number in range(quote.AT_ONCE - 1)]
    under_way = [asyncio.create_task(quoted(site, b"text", "note.txt", key=key)) for key in (site.key, *others)]
    await until(lambda: slow.under_way == quote.AT_ONCE)
    for _ in range(5):
        form = aiohttp.FormData({"prompt": "What is it?", "dry_run": "true"})
        form.add_field("file", b"text", filename="note.txt")
        status, body, headers = await site.call("POST", "/api/v2/process", data=form)
        assert (status, body["error_type"]) == (503, "system_error")
        assert int(headers["Retry-After"]) >= 1
    assert await site.accepted(), "documents are accepted meanwhile"
    slow.go_on.set()
    await asyncio.gather(*under_way)
    assert slow.most == quote.AT_ONCE
    assert (await quoted(site, b"text", "note.txt"))["pages"]["total"] == 1


async def test_no_quote_is_made_while_memory_is_short(site: Site, tmp_path: Path) -> None:
    await site.use_memory(91)
    status, body = await site.submit(dry_run="true")
    assert (status, body["detail"]) == (503, "The server is short of memory")
    assert await site.accepted(), "a document may wait for memory; a quote cannot"


async def test_a_document_that_takes_long_is_quoted_by_its_first_pages(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document = text_pdf([f"Page {n} has some words of its own. " * 50 for n in range(1, 41)])
    whole = await quoted(site, document, "long.pdf")
    monkeypatch.setattr(quote, "read", Slow(pages=10))
    monkeypatch.setattr(quote, "READING_SECONDS", 1.0)
    part = await quoted(site, document, "long.pdf")
    assert (part["pages_read"], part["pages"]["total"]) == (10, 40)
    assert part["estimated_tokens"]["prompt"] == pytest.approx(whole["estimated_tokens"]["prompt"], rel=0.25)
    await nothing_is_kept(site, tmp_path)


async def test_one_of_which_nobody_knows_how_long_it_is_is_not_guessed(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quote, "read", Slow())
    monkeypatch.setattr(quote, "READING_SECONDS", 0.3)
    status, body = await site.submit(docx(["Some text."]), "note.docx", dry_run="true")
    assert (status, body["error_type"]) == (503, "system_error")
    await nothing_is_kept(site, tmp_path)


async def test_a_client_that_goes_away_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = Slow()
    monkeypatch.setattr(quote, "read", slow)
    asking = asyncio.create_task(quoted(site, text_pdf(["some text"]), "a.pdf"))
    await until(lambda: slow.under_way == 1)
    asking.cancel()
    await asyncio.wait([asking])
    await until(lambda: slow.under_way == 0 and site.stored() == [] and not list((tmp_path / "work").iterdir()))


async def test_pages_are_not_gathered_on_disk(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    most = 0

    async def watched(*args: Any, **options: Any) -> Any:
        nonlocal most
        async for found in quote_read(*args, **options):
            yield found
            files = await asyncio.to_thread(lambda: len(list((tmp_path / "work").rglob("*.jpg"))))
            most = max(most, files)

    monkeypatch.setattr(quote, "read", watched)
    body = await quoted(site, mixed_pdf([page_picture(f"scan {n}") for n in range(12)]), "scans.pdf")
    assert body["pages"]["picture"] == 12
    assert most <= 6, "those that the reader has ready while one is looked at"


def test_the_figures_are_those_of_the_plan() -> None:
    """What a quote expects is what asking does, call by call, where every answer is as long as it may be."""
    for context in (4_096, 8_192, 32_768, 400_000):
        asked = model(context)
        sizes = dict.fromkeys(range(1, 101), 3_000)
        pages = [page(number) for number in sizes]
        expected = plan.expect(pages, sizes, asked, WANTED, times=1)
        groups = planned(pages, sizes, asked)
        calls, answers = len(groups), len(groups)
        longest = "x" * (plan.part_answer(asked, WANTED.max_tokens) * 3)
        while answers > 1:
            joined = plan.plan_combine([part(n, n, longest) for n in range(1, answers + 1)], asked, WANTED)
            calls += sum(len(group) > 1 for group in joined)
            answers = len(joined)
        assert expected.parts == len(groups)
        assert abs(expected.calls - calls) <= 1
