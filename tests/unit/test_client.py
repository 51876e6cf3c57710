"""What the client decides, without a server and without waiting: operations are driven by hand."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from python_multipart.multipart import MultipartParser, parse_options_header

from docv2.client import (
    APIError,
    AuthError,
    Client,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    RejectedFile,
    Task,
    TaskFailed,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
    operations,
)
from docv2.client.operations import Operation, Pause, Reply, Request
from docv2.client.upload import Upload

REFUSED = Unreachable("no answer: connection refused")
DONE = {"task_id": "t", "status": "completed", "result": {"content": "42", "model_used": "m"}}
WORKING = {"task_id": "t", "status": "processing", "progress": 10.0}


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode())


class Driver:
    """Plays the part of a client: answers each request from a list, makes no pauses but counts them as time passing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.requests: list[Request] = []
        self.took = 0.0
        """Seconds that each request takes."""
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(random, "uniform", lambda low, high: high)

    def run(self, operation: Operation[Any], replies: list[Reply | Unreachable]) -> Any:
        """The last reply stays."""
        turn = iter(replies)
        answer: Reply | Unreachable | None = None
        while True:
            try:
                step = operation.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
                answer = None
            else:
                self.requests.append(step)
                self.now += self.took
                answer = next(turn, replies[-1])


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


def submission(patience: float = 60.0, source: Any = b"text") -> Operation[Task]:
    upload = Upload(source, "note.txt", operations.form("What is it?", None, None, None))
    return operations.submit(upload, idempotency_key=None, patience=patience)


ACCEPTED = reply({"task_id": "t", "status": "processing"})


# -- submission -------------------------------------------------------------------------------------------------------
def test_a_submission_is_repeated_under_one_key(driver: Driver) -> None:
    not_now = [reply({}, 502), reply({}, 503, retry_after="7"), reply({}, 429, retry_after="1")]
    task = driver.run(submission(), [REFUSED, *not_now, ACCEPTED])
    assert task.task_id == "t"
    assert driver.pauses == [0.2, 0.4, 7.0, 1.0]
    assert len({request.headers["Idempotency-Key"] for request in driver.requests}) == 1


def test_only_what_a_limit_refused_counts_as_not_sent(driver: Driver) -> None:
    told: list[tuple[int, int | None]] = []
    upload = Upload(b"text", "note.txt", {}, lambda sent, size: told.append((sent, size)))
    submitting = operations.submit(upload, idempotency_key=None, patience=60.0)
    driver.run(submitting, [REFUSED, reply({}, 504), reply({}, 429, retry_after="1"), ACCEPTED])
    assert told == [(0, upload.length)]


def test_each_submission_has_a_key_of_its_own(driver: Driver) -> None:
    driver.run(submission(), [ACCEPTED])
    driver.run(submission(), [ACCEPTED])
    assert len({request.headers["Idempotency-Key"] for request in driver.requests}) == 2


@pytest.mark.parametrize("status", [400, 401, 413, 422, 500, 507])
def test_a_refusal_for_good_is_not_repeated(driver: Driver, status: int) -> None:
    with pytest.raises(APIError):
        driver.run(submission(), [reply({"detail": "no"}, status, retry_after="1")])
    assert len(driver.requests) == 1


def test_patience_ends(driver: Driver) -> None:
    with pytest.raises(Unreachable):
        driver.run(submission(patience=10.0), [REFUSED])
    assert driver.now <= 10.0 < driver.now + operations.BACKOFF_CAP
    with pytest.raises(Unavailable):
        driver.run(submission(patience=10.0), [reply({}, 503, retry_after="11")])


def test_an_upload_that_took_longer_than_patience_is_sent_again(driver: Driver) -> None:
    driver.took = 70.0
    assert driver.run(submission(patience=60.0), [REFUSED, ACCEPTED]).task_id == "t"
    assert len(driver.requests) == 2


def test_patience_is_as_long_as_the_pause_that_the_server_names(driver: Driver) -> None:
    """As with a limit of so many documents a minute, just reached."""
    driver.run(submission(patience=60.0), [reply({}, 429, retry_after="60"), ACCEPTED])
    assert driver.pauses == [60.0]


def test_a_pipe_that_was_read_is_not_sent_again(driver: Driver) -> None:
    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

    upload = Upload(Pipe(b"text"), "note.txt", {})
    operation = operations.submit(upload, idempotency_key=None, patience=60.0)
    request = next(operation)
    assert isinstance(operation.send(REFUSED), Pause), "nothing of it was read yet"
    assert operation.send(None) == request
    assert b"text" in b"".join(upload.pieces())
    with pytest.raises(Unreachable):
        operation.send(REFUSED)


# -- waiting ----------------------------------------------------------------------------------------------------------
def test_waiting_survives_a_restart_of_the_server(driver: Driver) -> None:
    seen: list[Task] = []
    draining, back = reply({}, 503, retry_after="3"), [reply(WORKING), reply(DONE)]
    result = driver.run(operations.wait("t", None, seen.append), [reply(WORKING), REFUSED, REFUSED, draining, *back])
    assert result.content == "42"
    assert driver.pauses[1:4] == [0.2, 0.4, 3.0]
    assert [task.status for task in seen] == ["processing", "completed"]


def test_waiting_ends_in_time_and_tells_what_was_known(driver: Driver) -> None:
    driver.took = 1.0
    with pytest.raises(WaitTimeout) as caught:
        driver.run(operations.wait("t", 20.0, None), [reply(WORKING), REFUSED])
    assert caught.value.task is not None
    assert caught.value.task.progress == 10.0
    assert isinstance(caught.value, TimeoutError)
    assert driver.now <= 20.0 + operations.LATE
    assert all(request.timeout <= 20.0 + operations.LATE for request in driver.requests)


def test_a_server_that_does_not_hold_its_answer_back_is_not_hurried(driver: Driver) -> None:
    with pytest.raises(WaitTimeout):
        driver.run(operations.wait("t", 60.0, None), [reply(WORKING)])
    assert len(driver.requests) < 60 / operations.BACKOFF_CAP + 8


def test_a_task_that_changes_all_the_time_is_asked_for_at_an_interval(driver: Driver) -> None:
    driver.took = 0.01
    steps = [reply(WORKING | {"progress": float(percent)}) for percent in range(50)]
    driver.run(operations.wait("t", None, None), [*steps, reply(DONE)])
    assert driver.now == pytest.approx(50 * operations.POLL_INTERVAL, abs=0.1)


def test_each_poll_waits_on_the_server(driver: Driver) -> None:
    driver.took = 30.0
    driver.run(operations.wait("t", None, None), [reply(WORKING), reply(WORKING), reply(DONE)])
    assert [request.params["wait"] for request in driver.requests] == ["30.000"] * 3
    assert all(request.timeout > 30.0 for request in driver.requests)
    assert driver.pauses == [0.0, 0.0]


def test_whoever_watches_the_queue_sees_it_move(driver: Driver) -> None:
    driver.took = 5.0
    replies = [reply({"task_id": "t", "status": "queued", "position": place}) for place in (3, 2, 1)]
    seen: list[int | None] = []
    driver.run(operations.wait("t", None, lambda task: seen.append(task.position)), [*replies, reply(DONE)])
    assert seen == [3, 2, 1, None]
    assert [request.params["wait"] for request in driver.requests[1:]] == ["5.000"] * 3


def test_a_failed_task_raises_what_it_said(driver: Driver) -> None:
    body = {"task_id": "t", "status": "failed", "error": "The file is encrypted", "error_type": "processing_error"}
    with pytest.raises(TaskFailed, match="The file is encrypted") as caught:
        driver.run(operations.wait("t", None, None), [reply(body)])
    assert (caught.value.error_type, caught.value.task.status) == ("processing_error", "failed")


@pytest.mark.parametrize(("status", "kind"), [(401, AuthError), (404, NotFound), (500, Unavailable)])
def test_what_no_patience_mends_ends_the_wait(driver: Driver, status: int, kind: type[APIError]) -> None:
    with pytest.raises(kind):
        driver.run(operations.wait("t", None, None), [reply({}, status)])
    assert len(driver.requests) == 1


# -- answers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, AuthError),
        (403, AuthError),
        (404, NotFound),
        (405, APIError),
        (409, Conflict),
        (413, RejectedFile),
        (415, RejectedFile),
        (422, InvalidRequest),
        (429, RateLimited),
        (503, Unavailable),
        (507, Unavailable),
    ],
)
def test_a_refusal_has_its_class_and_all_that_was_said(driver: Driver, status: int, kind: type[APIError]) -> None:
    body = {"detail": "No.", "error_type": "validation_error", "request_id": "req_1"}
    with pytest.raises(APIError) as caught:
        driver.run(operations.cancel("t"), [reply(body, status, retry_after="2.5")])
    error = caught.value
    assert type(error) is kind
    assert (error.detail, error.error_type, error.request_id, error.status, error.retry_after) == (
        "No.",
        "validation_error",
        "req_1",
        status,
        2.5,
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"', b"\xff", b"{}", b'{"status": "x"}'])
def test_what_docv2_does_not_say_is_called_so(driver: Driver, body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        driver.run(operations.status("t", None), [Reply(200, {}, body)])


@pytest.mark.parametrize("body", [b"<html>Bad gateway", b"[]", b'{"detail": {"a": 1}, "error_type": 5}'])
def test_a_foreign_error_page_is_not_shown(driver: Driver, body: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        driver.run(operations.status("t", None), [Reply(502, {"x-request-id": "req_2"}, body)])
    assert caught.value.detail == "the server answered with HTTP 502"
    assert (caught.value.error_type, caught.value.request_id) == (None, "req_2")


def test_a_redirect_is_told_and_not_followed(driver: Driver) -> None:
    with pytest.raises(UnexpectedAnswer, match="redirects to https://elsewhere"):
        driver.run(operations.status("t", None), [reply({}, 307, location="https://elsewhere/")])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("-5", 0.0), ("1.5", 1.5), ("soon", None), ("nan", None), ("inf", None), ("", None)],
)
def test_retry_after(driver: Driver, header: str, seconds: float | None) -> None:
    with pytest.raises(Unavailable) as caught:
        driver.run(operations.status("t", None), [reply({}, 503, retry_after=header)])
    assert caught.value.retry_after == seconds


def test_retry_after_as_a_date(driver: Driver) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with pytest.raises(Unavailable) as caught:
        driver.run(operations.status("t", None), [reply({}, 503, retry_after=date)])
    assert caught.value.retry_after == pytest.approx(90, abs=2)


def test_newer_fields_are_kept_and_missing_ones_have_defaults() -> None:
    task = Task.of(DONE | {"colour": "red", "pages_done": None})
    assert task.raw["colour"] == "red"
    assert (task.pages_done, task.position) == (0, None)
    assert task.result is not None
    assert task.result.warnings == []


def test_a_task_id_stays_within_its_path(driver: Driver) -> None:
    driver.run(operations.cancel("../admin?x=1#y"), [ACCEPTED])
    assert driver.requests[0].path == "/api/v2/tasks/..%2Fadmin%3Fx%3D1%23y"


# -- uploads ----------------------------------------------------------------------------------------------------------
def parts(upload: Upload) -> list[tuple[str, bytes]]:
    """Content-Disposition and contents of each part, as another implementation reads them."""
    found: list[list[bytearray]] = []

    def collect(where: int) -> Any:
        return lambda data, start, end: found[-1][where].extend(data[start:end])

    named = bytearray()

    def end_header() -> None:
        named.clear()

    def value(data: bytes, start: int, end: int) -> None:
        if named.lower() == b"content-disposition":
            found[-1][0].extend(data[start:end])

    _, options = parse_options_header(upload.content_type)
    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_part_begin": lambda: found.append([bytearray(), bytearray()]),
            "on_header_field": lambda data, start, end: named.extend(data[start:end]),
            "on_header_value": value,
            "on_header_end": end_header,
            "on_part_data": collect(1),
        },
    )
    body = b"".join(upload.pieces())
    if upload.length is not None:
        assert len(body) == upload.length
    parser.write(body)
    parser.finalize()
    return [(header.decode(), bytes(content)) for header, content in found]


def test_the_form_reads_as_it_was_meant() -> None:
    fields = operations.form("Wieviel? 你好\r\n--x", "m", 0.0, 100)
    assert parts(Upload(b"\r\n--bytes", "a.txt", fields)) == [
        ('form-data; name="prompt"', "Wieviel? 你好\r\n--x".encode()),
        ('form-data; name="model"', b"m"),
        ('form-data; name="temperature"', b"0.0"),
        ('form-data; name="max_tokens"', b"100"),
        ('form-data; name="file"; filename="a.txt"', b"\r\n--bytes"),
    ]


def test_a_file_name_cannot_leave_its_quotes(tmp_path: Path) -> None:
    nasty = tmp_path / 'a"\r\nX: y\x1b.txt'
    nasty.write_bytes(b"text")
    [(header, _)] = parts(Upload(nasty, None, {}))
    assert header == 'form-data; name="file"; filename="a%22%0D%0AX: y%1B.txt"'
    undecodable = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")
    Path(undecodable).write_bytes(b"text")
    assert parts(Upload(undecodable, None, {}))[0][0].endswith('filename="?.txt"')


def test_contents_without_a_name_are_refused_before_anything_is_sent() -> None:
    for nameless in (b"text", BytesIO(b"text")):
        with pytest.raises(ValueError, match="filename"):
            Upload(nameless, None, {})


def test_a_file_is_sent_from_where_it_stands_each_time(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.seek(4)
        upload = Upload(file, None, {})
        assert [parts(upload)[0][1], parts(upload)[0][1]] == [b"456789"] * 2
        assert upload.repeatable


def test_a_file_that_changes_while_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"0123456789")
    upload = Upload(path, None, {})
    path.write_bytes(b"0123456789 and more")
    assert parts(upload)[0][1] == b"0123456789"
    path.write_bytes(b"01234")
    with pytest.raises(OSError, match="shorter"):
        parts(upload)


def test_progress_counts_every_byte_of_the_body() -> None:
    told: list[tuple[int, int | None]] = []
    upload = Upload(bytes(200_000), "a.txt", {}, lambda sent, total: told.append((sent, total)))
    for piece in upload.pieces():
        upload.sent(piece)
    assert told[-1] == (upload.length, upload.length)
    assert told == sorted(told)


# -- the client itself ------------------------------------------------------------------------------------------------
def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCV2_URL", "https://docs.example.org/v2/")
    monkeypatch.setenv("DOCV2_API_KEY", "sk-abc\n")
    with Client() as client:
        assert str(client._http.base_url) == "https://docs.example.org/v2/"
        assert client._http.headers["Authorization"] == "Bearer sk-abc"
    with Client("http://127.0.0.1:9", "sk-own") as client:
        assert client._http.headers["Authorization"] == "Bearer sk-own"


@pytest.mark.parametrize("url", ["docs.example.org", "ftp://docs.example.org", "http://"])
def test_an_address_that_cannot_be_right(url: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        Client(url)


@pytest.mark.parametrize("key", ["sk-ä", "sk-a b", "sk-a\nb"])
def test_a_key_that_cannot_be_right(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        Client("http://127.0.0.1:9", key)


def test_every_error_is_drawn_in_the_tree() -> None:
    tree = sys.modules[ClientError.__module__].__doc__ or ""
    kinds = [ClientError]
    while kinds:
        kind = kinds.pop()
        assert kind.__name__ in tree
        kinds += kind.__subclasses__()


BLOCKED = """
import importlib.abc, sys

ALLOWED = {"docv2", "httpx2", "httpcore2", "h11", "anyio", "idna", "truststore", "typing_extensions", "sniffio"}

class Nothing_else(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in ALLOWED:
            return None
        raise ImportError(f"{name} is not the client's to import")

sys.meta_path.insert(0, Nothing_else())
from docv2.client import AsyncClient, Client, Unreachable

try:
    Client("http://127.0.0.1:9", patience=0).process(b"text", "What is it?", filename="a.txt")
except Unreachable:
    print(sorted(name for name in sys.modules if name.split(".")[0] == "docv2" and "client" not in name))
"""


def test_the_client_needs_httpx2_and_nothing_else() -> None:
    run = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("['docv2']\n", "")


# -- lists ------------------------------------------------------------------------------------------------------------
def test_a_page_of_tasks_is_asked_for_as_wanted(driver: Driver) -> None:
    answered = reply({"tasks": [{"task_id": "t", "status": "queued", "position": 3, "model": "m"}], "next_cursor": "c"})
    page = driver.run(operations.tasks("queued", 7, "before"), [answered])
    assert [(task.task_id, task.position, task.model) for task in page.tasks] == [("t", 3, "m")]
    assert page.next_cursor == "c"
    driver.run(operations.tasks(None, None, None), [reply({"tasks": []})])
    assert [request.params for request in driver.requests] == [
        {"status": "queued", "limit": "7", "cursor": "before"},
        {},
    ]
    with pytest.raises(UnexpectedAnswer):
        driver.run(operations.tasks(None, None, None), [reply({"tasks": [{}]})])
