"""Answers in a form: held against the schema here whatever the endpoint does, asked for once more, then failed."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from docv2.errors import BadRequest, DocV2Error, InvalidValue, UnfitAnswer, UpstreamUnavailable
from docv2.llm import forms
from docv2.llm.forms import FormCheck, bare, read_form
from docv2.sandbox import Sandbox
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import JSONObject
from tests.asking import Desk, open_desk, text
from tests.endpoint import Call, ScriptedEndpoint, answer, in_turn, rejects_parameter, status
from tests.model import ReadingModel, fact, filler

SCHEMA: JSONObject = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "currency": {"enum": ["EUR", "USD"]}},
    "required": ["total", "currency"],
    "additionalProperties": False,
}
FORM: JSONObject = {"type": "json_schema", "json_schema": {"name": "invoice", "schema": SCHEMA, "strict": True}}
FITS = '{"total": 42.5, "currency": "EUR"}'
PAGE = text(1, "The total is 42.50 EUR.")


@pytest.fixture
async def desk(store: SQLiteStore, tmp_path: Path) -> AsyncIterator[Desk]:
    async with ScriptedEndpoint([ReadingModel(4_096).entry]) as endpoint, open_desk(store, tmp_path, endpoint) as desk:
        endpoint.otherwise = answer(FITS)
        yield desk


@pytest.fixture
async def check() -> AsyncIterator[FormCheck]:
    sandbox = Sandbox()
    await sandbox.start()
    yield FormCheck(sandbox)
    await sandbox.close()


def asked(call: Call) -> Any:
    return call.json.get("response_format")


# -- the last step ----------------------------------------------------------------------------------------------------
async def test_an_answer_that_fits_is_handed_on(desk: Desk) -> None:
    result = await desk.answer([PAGE], "What is the total?", response_format=FORM)
    assert result.content == FITS
    assert [asked(call) for call in desk.endpoint.calls] == [FORM]
    assert json.dumps(SCHEMA) in desk.endpoint.calls[0].text, "for endpoints that ignore the parameter"


async def test_a_fence_of_markdown_is_taken_off(desk: Desk) -> None:
    desk.endpoint.otherwise = answer(f"```json\n{FITS}\n```")
    assert (await desk.answer([PAGE], "What is the total?", response_format=FORM)).content == FITS
    assert bare("``` no fence") == "``` no fence"
    assert bare("```\n{}\n```") == "{}"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("It is 42.50 EUR.", "it is not JSON"),
        ('{"total": "42.5", "currency": "EUR"}', "$.total: '42.5' is not of type 'number'"),
        ('{"total": 42.5}', "'currency' is a required property"),
        ('{"total": NaN, "currency": "EUR"}', "NaN is not JSON"),
        ('{"total": "?", "currency": "EUR", "total": 1}', "'total' stands there twice"),
        ('{"total": 1, "currency": "EUR", "note": "ignore the schema"}', "'note' was unexpected"),
    ],
)
async def test_one_that_does_not_is_asked_for_once_more_with_the_reason(desk: Desk, wrong: str, reason: str) -> None:
    desk.endpoint.otherwise = in_turn(answer(wrong), answer(FITS))
    task = await desk.task([PAGE], "What is the total?", response_format=FORM)
    result = await desk.ask(task)
    assert result.content == FITS
    first, second = desk.endpoint.calls
    assert reason not in first.text
    assert reason in second.text
    assert wrong in second.text
    assert "42.50 EUR" in second.text, "the document goes along again"
    assert asked(second) == FORM
    assert result.prompt_tokens == 2 * 11, "both are paid for"


@pytest.mark.parametrize(
    ("kind", "fits", "does_not"),
    [
        ("date-time", ["2026-11-22T10:00:00Z", "2026-11-22t10:00:00.5+01:00"], ["now", "2026-11-22", "2026-11-22T1"]),
        ("date", ["2026-11-22"], ["22.11.2026"]),
        ("email", ["ada@example.org"], ["ada"]),
        ("colour", ["anything"], []),
    ],
)  # fmt: skip
async def test_formats_are_checked(
    check: FormCheck, tmp_path: Path, kind: str, fits: list[str], does_not: list[str]
) -> None:
    schema = {"type": ["string", "number"], "format": kind}
    form = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema}}
    for value in [*fits, 5]:
        assert await check.misfit(form, json.dumps(value), tmp_path, owner="a test") == ""
    for value in does_not:
        assert kind in await check.misfit(form, json.dumps(value), tmp_path, owner="a test")


async def test_one_that_never_fits_fails_with_the_reason(desk: Desk) -> None:
    desk.endpoint.otherwise = answer('{"total": 42.5, "currency": "XXX"}')
    with pytest.raises(UnfitAnswer, match=r"\$\.currency: 'XXX' is not one of \['EUR', 'USD'\]") as failure:
        await desk.answer([PAGE], "What is the total?", response_format=FORM)
    assert len(desk.endpoint.calls) == 2
    assert failure.value.quotes, "its words may be the document's, and no log's"


async def test_a_failed_one_that_is_tried_again_is_asked_again(desk: Desk) -> None:
    desk.endpoint.otherwise = answer("no JSON")
    task = await desk.task([PAGE], "What is the total?", response_format=FORM)
    with pytest.raises(UnfitAnswer):
        await desk.ask(task)
    await desk.store.fail(task.claim, "It does not fit.", "processing_error")
    await desk.store.retry(task.task_id)
    desk.endpoint.otherwise = answer(FITS)
    claimed = await desk.store.claim("desk")
    assert claimed is not None
    assert (await desk.ask(claimed)).content == FITS
    assert len(desk.endpoint.calls) == 3, "the first answer was kept"


async def test_only_the_last_step_of_a_long_document_has_the_form(desk: Desk) -> None:
    model = ReadingModel(4_096)

    def in_form(call: Call) -> str:
        return json.dumps({"total": call.text.count("FACT"), "currency": "EUR"})

    async def behave(call: Call) -> Any:
        return await (answer(in_form) if asked(call) else model)(call)

    desk.endpoint.otherwise = behave
    pages = [text(n, filler(n) + "\n" + fact(f"item-{n}", n)) for n in range(1, 31)]
    result = await desk.answer(pages, "list", response_format=FORM, max_tokens=400)
    assert json.loads(result.content) == {"total": 30, "currency": "EUR"}
    assert [asked(call) for call in desk.endpoint.calls].count(FORM) == 1
    assert asked(desk.endpoint.calls[-1]) == FORM
    assert len(model.answered) > 3
    assert all("JSON" not in call.json["messages"][0]["content"] for call in desk.endpoint.calls[:-1])


async def test_a_long_document_gets_its_second_try_over_the_answers(desk: Desk) -> None:
    model = ReadingModel(4_096)
    structured = in_turn(answer("no JSON"), answer(FITS))

    async def behave(call: Call) -> Any:
        return await (structured if asked(call) else model)(call)

    desk.endpoint.otherwise = behave
    pages = [text(n, filler(n) + "\n" + fact(f"item-{n}", n)) for n in range(1, 31)]
    assert (await desk.answer(pages, "list", response_format=FORM, max_tokens=400)).content == FITS
    assert "FACT item-30: 30" in desk.endpoint.calls[-1].text
    assert "no JSON" in desk.endpoint.calls[-1].text


async def test_an_attempt_that_fails_between_the_tries_asks_only_the_second_again(desk: Desk) -> None:
    desk.endpoint.script(answer("no JSON"), status(503))
    task = await desk.task([PAGE], "What is the total?", response_format=FORM)
    with pytest.raises(UpstreamUnavailable):
        await desk.ask(task)
    assert (await desk.ask(await desk.again(task))).content == FITS
    assert ["no JSON" in call.text for call in desk.endpoint.calls] == [False, True, True]


async def test_any_object_will_do_where_no_schema_is_given(desk: Desk) -> None:
    desk.endpoint.otherwise = in_turn(answer("[1]"), answer('{"anything": [1]}'))
    result = await desk.answer([PAGE], "What is the total?", response_format={"type": "json_object"})
    assert result.content == '{"anything": [1]}'
    assert asked(desk.endpoint.calls[0]) == {"type": "json_object"}
    assert "$: [1] is not of type 'object'" in desk.endpoint.calls[1].text


# -- endpoints that do not take the parameter -------------------------------------------------------------------------
async def test_what_an_endpoint_does_not_take_is_left_out_and_remembered(desk: Desk) -> None:
    desk.endpoint.script(
        rejects_parameter("response_format", "response_format type json_schema is not supported"),
        rejects_parameter("response_format", "Unrecognized request argument supplied: response_format"),
    )
    for _ in range(2):
        assert (await desk.answer([PAGE], "What is the total?", response_format=FORM)).content == FITS
    assert [asked(call) for call in desk.endpoint.calls] == [FORM, {"type": "json_object"}, None, None]


async def test_an_endpoint_may_take_objects_without_schemas(desk: Desk) -> None:
    desk.endpoint.script(status(500, {"error": {"message": "This response_format type is unavailable now"}}))
    for _ in range(2):
        await desk.answer([PAGE], "What is the total?", response_format=FORM)
    assert [asked(call) for call in desk.endpoint.calls] == [FORM, {"type": "json_object"}, {"type": "json_object"}]


async def test_a_schema_that_one_endpoint_finds_too_much_says_nothing_of_the_next(desk: Desk) -> None:
    words = "Invalid schema for response_format 'invoice': 'additionalProperties' is required to be false"
    desk.endpoint.script(rejects_parameter("response_format", words))
    for _ in range(2):
        assert (await desk.answer([PAGE], "What is the total?", response_format=FORM)).content == FITS
    assert [asked(call) for call in desk.endpoint.calls] == [FORM, {"type": "json_object"}, FORM]


# -- what may be wanted -----------------------------------------------------------------------------------------------
def test_the_forms_are_openais() -> None:
    assert read_form(json.dumps(FORM)) == FORM
    assert read_form('{"type": "json_object"}') == {"type": "json_object"}
    assert read_form('{"type": "text"}') is None


@pytest.mark.parametrize(
    ("sent", "error", "said"),
    [
        ("{", BadRequest, "must be JSON"),
        ("[" * 100_000, BadRequest, "must be JSON"),
        ("json", BadRequest, "must be JSON"),
        ('"json_object"', InvalidValue, "must be"),
        ("[]", InvalidValue, "must be"),
        ('{"type": "xml"}', InvalidValue, "type"),
        ('{"type": "json_schema"}', InvalidValue, "json_schema: Field required"),
        ('{"type": "json_schema", "json_schema": {"schema": {}}}', InvalidValue, "name: Field required"),
        ('{"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}', InvalidValue, "name"),
        ('{"type": "json_schema", "json_schema": {"name": "a", "schema": []}}', InvalidValue, "schema"),
        ('{"type": "json_object", "more": 1}', InvalidValue, "more"),
        ('{"type": "json_object", "more": ' + "[" * 70 + "]" * 70 + "}", InvalidValue, "nested deeper"),
    ],
)
def test_anything_else_is_refused_with_what_is_wrong(sent: str, error: type[DocV2Error], said: str) -> None:
    with pytest.raises(error, match="response_format") as refusal:
        read_form(sent)
    assert said in refusal.value.message
    assert len(refusal.value.message) < 400


def wrapped(schema: JSONObject) -> JSONObject:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objekt"}, "'objekt' is not valid"),
        ({"pattern": "("}, "is not a 'regex'"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "outside of itself"),
        ({"$ref": "file:///etc/passwd"}, "outside of itself"),
        ({"properties": {"a": {"$dynamicRef": "other.json"}}}, "outside of itself"),
        ({"$ref": "#/$defs/none"}, "does not hold"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": 7}, "7 is not valid"),
    ],
)
async def test_a_schema_that_is_none_is_refused_before_anything_is_paid(
    check: FormCheck, schema: JSONObject, said: str
) -> None:
    with pytest.raises(InvalidValue, match=said):
        await check.schema(wrapped(schema))


async def test_schemas_that_refer_to_themselves_are_used(check: FormCheck, tmp_path: Path) -> None:
    properties = {"child": {"$ref": "#"}, "n": {"$ref": "#/$defs/n"}}
    tree = {"type": "object", "properties": properties, "$defs": {"n": {"type": "integer"}}}
    await check.schema(wrapped(tree))
    assert await check.misfit(wrapped(tree), '{"child": {"child": {"n": 1}}}', tmp_path, owner="t") == ""
    said = await check.misfit(wrapped(tree), '{"child": {"child": {"n": "1"}}}', tmp_path, owner="t")
    assert said == "$.child.child.n: '1' is not of type 'integer'"


# -- those who mean harm ----------------------------------------------------------------------------------------------
def laughs(levels: int = 30) -> JSONObject:
    """Each level refers to the next one twice."""
    definitions: JSONObject = {
        f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$ref": "#/$defs/l0", "$defs": {**definitions, f"l{levels}": {"type": "number"}}}


HARM: dict[str, tuple[JSONObject, str]] = {
    "a pattern that tries every way": ({"pattern": "^(a+)+$"}, json.dumps("a" * 60 + "!")),
    "references that multiply": (laughs(), "1"),
    "references in a circle": ({"$ref": "#"}, "1"),
    "an answer nested without an end": ({"type": "array"}, "[" * 200_000 + "]" * 200_000),
    "a number of a million digits": ({"type": "number"}, "9" * 1_000_000),
    "a very long answer": ({"type": "array", "items": {"type": "string"}}, json.dumps([1] * 1_000_000)),
    "every item unlike every other": ({"uniqueItems": True}, json.dumps([{"a": n} for n in range(30_000)])),
    "a reference to the network": ({"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}, '{"a": 1}'),
}


@pytest.mark.parametrize("harm", HARM)
async def test_no_schema_and_no_answer_holds_the_server_up(
    check: FormCheck, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "CHECK_SECONDS", 1)
    schema, content = HARM[harm]
    longest_pause = 0.0

    async def watch() -> None:
        nonlocal longest_pause
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            longest_pause = max(longest_pause, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    said = await check.misfit(wrapped(schema), content, tmp_path, owner="t")
    assert time.perf_counter() - began < 5
    watching.cancel()
    assert said
    assert len(said) <= 400
    assert longest_pause < 0.5
    assert list(tmp_path.iterdir()) == []


async def test_a_schema_that_takes_for_ever_to_look_at_is_refused(
    check: FormCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "CHECK_SECONDS", 1)
    with pytest.raises(InvalidValue, match="cannot be used"):
        await check.schema(wrapped({"$schema": "http://127.0.0.1:1/none", "patternProperties": {"x{1,60000}": 1}}))


async def test_nothing_is_fetched(check: FormCheck, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        with pytest.raises(InvalidValue):
            await check.schema(wrapped({"$ref": url}))
        assert "does not hold" in await check.misfit(wrapped({"$ref": url}), "1", tmp_path, owner="t")
        await check.misfit(wrapped({"$schema": url, "type": "number"}), "1", tmp_path, owner="t")
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(listener.accept)
