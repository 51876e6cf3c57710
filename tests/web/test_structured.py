"""The wanted form of an answer, as a request says it: checked before anything is accepted."""

from __future__ import annotations

import json

from tests.web.site import Site

FORM = {"type": "json_schema", "json_schema": {"name": "total", "schema": {"type": "number"}}}


async def test_an_accepted_form_is_kept_with_the_task(site: Site) -> None:
    task_id = await site.accepted(response_format=json.dumps(FORM))
    assert (await site.task(task_id)).response_format == FORM
    for none in ('{"type": "text"}', ""):
        assert (await site.task(await site.accepted(response_format=none))).response_format is None


async def test_a_form_that_cannot_be_used_is_refused_and_nothing_is_kept(site: Site) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "sum"}}}
    for sent, expected, said in (
        ("{", 400, "response_format must be JSON"),
        ('{"type": "xml"}', 422, "response_format must be"),
        (json.dumps(schema), 422, "The schema in response_format cannot be used: $.type: 'sum' is not valid"),
        (json.dumps({"type": "json_object", "x": "y" * 40_000}), 422, "The field response_format is too long"),
    ):
        status, body = await site.submit(response_format=sent)
        assert (status, body["error_type"]) == (expected, "validation_error"), body
        assert body["detail"].startswith(said)
    assert site.stored() == []
    assert (await site.store.depth()).waiting == 0


async def test_a_repeated_request_counts_its_form(site: Site) -> None:
    async def send(form: str | None) -> tuple[int, str]:
        import aiohttp

        data = aiohttp.FormData({"prompt": "What is the total?", **({"response_format": form} if form else {})})
        data.add_field("file", b"42", filename="note.txt")
        status, body, _ = await site.call("POST", "/api/v2/process", data=data, headers={"Idempotency-Key": "one"})
        return status, body.get("task_id", "")

    first = await send(json.dumps(FORM))
    assert first[0] == 200
    assert await send(json.dumps(FORM, indent=2)) == first, "the same form, written otherwise"
    assert (await send(None))[0] == 409
