"""Long documents through a real server: read, split, asked, combined, and accounted for page by page."""

from __future__ import annotations

import json

from aiohttp import web

from tests.documents import damaged_pages_pdf, docx, text_pdf
from tests.e2e.server import Server
from tests.endpoint import Call, ScriptedEndpoint, answer
from tests.model import ReadingModel, fact, filler
from tests.waiting import until

PAGES = 400


def contract(pages: int = PAGES, every: int = 20) -> list[str]:
    """Pages of print, every twentieth with a fact."""
    lines = "\n".join(filler(7, 90) for _ in range(20))
    return [
        f"Page {n}\n{lines}" + (f"\n{fact(f'clause-{n}', n)}" if n % every == 0 else "") for n in range(1, pages + 1)
    ]


def serve(endpoint: ScriptedEndpoint, model: ReadingModel) -> None:
    endpoint.models = [model.entry]
    endpoint.otherwise = model


async def test_four_hundred_pages_are_answered_whole_and_accounted_for(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    model = ReadingModel(16_384)
    serve(endpoint, model)
    await server.start()
    document = text_pdf(contract())
    status, quote = await server.send(document, "contract.pdf", prompt="count", dry_run="true", max_tokens="2000")
    assert status == 200
    task_id = await server.submit(document, "contract.pdf", prompt="count", max_tokens="2000")
    seen: list[float] = []
    body = await server.status(task_id)
    while body["status"] not in ("completed", "failed"):
        body = await server.status(task_id, wait=5)
        seen.append(body["progress"])
    assert seen == sorted(seen), "progress never goes back"
    result = body["result"]
    assert result["content"].endswith(f"There are {PAGES // 20}.")
    assert result["warnings"] == []
    assert result["pages"] == {"total": PAGES, "text": PAGES, "picture": 0, "both": 0, "none": 0}
    assert quote["pages"]["total"] == PAGES

    _, ledger = await server.request("GET", f"/api/v2/tasks/{task_id}/pages", params={"limit": "1000"})
    assert [page["page"] for page in ledger["pages"]] == list(range(1, PAGES + 1))
    assert {page["attempts"] for page in ledger["pages"]} == {1}
    about_pages = [given for given in model.answered if given.pages]
    assert quote["parts"] == len(about_pages)
    assert len(about_pages) < len(model.answered) <= quote["calls"]
    counted = sum(page["tokens"] for page in ledger["pages"])
    assert 0.5 < counted / quote["estimated_tokens"]["prompt"] < 1.0, "the estimate errs on the side of more"


async def test_the_ledger_grows_while_the_task_runs(server: Server, endpoint: ScriptedEndpoint) -> None:
    model = ReadingModel(4_096)
    serve(endpoint, model)
    await server.start()
    task_id = await server.submit(text_pdf(contract(120)), "contract.pdf", prompt="count")
    used: list[int] = []
    while (await server.status(task_id))["status"] not in ("completed", "failed"):
        _, ledger = await server.request("GET", f"/api/v2/tasks/{task_id}/pages", params={"limit": "1000"})
        used.append(sum("used_as" in page for page in ledger["pages"]))
    assert used == sorted(used)
    assert len(set(used)) > 2, "it was seen on the way"


async def test_what_is_missing_of_a_long_document_is_named(server: Server, endpoint: ScriptedEndpoint) -> None:
    serve(endpoint, ReadingModel(4_096))
    await server.start()
    pages: list[str | None] = [*contract(60)]
    pages[30] = pages[31] = None
    task_id = await server.submit(damaged_pages_pdf(pages), "damaged.pdf", prompt="count")
    body = await server.finished(task_id)
    assert body["result"]["content"].endswith("There are 3.")
    assert body["result"]["pages"]["none"] == 2
    [warning] = body["result"]["warnings"]
    assert warning.startswith("Pages 31 to 32 could not be used: ")


async def test_a_long_word_file_gives_a_structured_answer(server: Server, endpoint: ScriptedEndpoint) -> None:
    model = ReadingModel(8_192)
    facts = {f"clause-{n}": n for n in range(1, 21)}

    def in_json(said: str) -> str:
        return json.dumps({"clauses": said.count("FACT")})

    async def behave(call: Call) -> web.StreamResponse:
        model.gives = (lambda said: answer(in_json(said))) if "response_format" in call.json else None
        return await model(call)

    serve(endpoint, model)
    endpoint.otherwise = behave
    await server.start()
    blocks = [block for name, value in facts.items() for block in (filler(value, 4000), fact(name, value))]
    schema = {"type": "object", "properties": {"clauses": {"const": 20}}, "required": ["clauses"]}
    form = {"type": "json_schema", "json_schema": {"name": "clauses", "schema": schema}}
    task_id = await server.submit(docx(blocks), "contract.docx", prompt="count", response_format=json.dumps(form))
    body = await server.finished(task_id)
    assert json.loads(body["result"]["content"]) == {"clauses": 20}
    assert len(model.answered) > 3


async def test_an_answer_that_never_fits_fails_and_its_words_stay_out_of_the_log(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    endpoint.otherwise = answer('{"total": "secret-words-of-the-document"}')
    await server.start()
    form = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"properties": {"total": {"type": "number"}}}},
    }
    body = await server.finished(await server.submit(b"a text", response_format=json.dumps(form)))
    assert (body["status"], body["error_type"]) == ("failed", "processing_error")
    assert "$.total: 'secret-words-of-the-document' is not of type 'number'" in body["error"]
    await until(lambda: "UnfitAnswer" in server.log.read_text())
    assert "secret-words" not in server.log.read_text()
