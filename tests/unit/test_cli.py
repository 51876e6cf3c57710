"""The command line: what it prints where, and what its exit status says."""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import docv2
from docv2.accounts.keys import KeyCheck
from docv2.cli import main
from docv2.errors import Unauthenticated
from docv2.store.base import User
from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import new_task, running


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCV2_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def owner_of(data_dir: Path, key: str) -> User:
    async def find() -> User:
        async with await SQLiteStore.open(data_dir / "docv2.db") as store:
            check = KeyCheck(store)
            user = await check.user(key)
            await check.close()
            return user

    return asyncio.run(find())


def test_version_and_help() -> None:
    assert run("--version").output == f"docv2 {docv2.__version__}\n"
    for command in (
        (),
        ("serve",),
        ("users",),
        ("users", "add"),
        ("users", "passwd"),
        ("keys",),
        ("keys", "create"),
        ("keys", "revoke"),
    ):
        shown = run(*command, "--help")
        assert shown.exit_code == 0
        assert "Usage:" in shown.output
    assert run("--help").output == run("-h").output


def test_a_user_and_a_key(data_dir: Path) -> None:
    added = run("users", "add", "ada@example.org", "--role", "admin", "--name", "Ada")
    assert (added.exit_code, added.stderr) == (0, "")
    created = run("keys", "create", "ADA@example.org", "--name", "laptop")
    assert (created.exit_code, created.stderr) == (0, "")
    key = created.stdout.removesuffix("\n")
    assert key.startswith("sk-")
    assert not any(char.isspace() for char in key)
    user = owner_of(data_dir, key)
    assert (user.user_id, user.email, user.role, user.name) == (added.stdout.strip(), "ada@example.org", "admin", "Ada")


def test_a_password_is_read_from_standard_input_and_kept_as_a_hash(data_dir: Path) -> None:
    run("users", "add", "ada@example.org")
    done = CliRunner().invoke(main, ["users", "passwd", "ADA@example.org"], input="correct horse\n")
    assert (done.exit_code, done.output) == (0, "")
    with sqlite3.connect(data_dir / "docv2.db") as connection:
        (kept,) = connection.execute("SELECT password FROM users").fetchone()
    connection.close()
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "correct horse" not in kept


@pytest.mark.parametrize(
    ("email", "given", "message"),
    [
        ("ada@example.org", "short\n", "docv2: The password must have 8 to 1000 characters\n"),
        ("ada@example.org", "", "docv2: The password must have 8 to 1000 characters\n"),
        ("bob@example.org", "correct horse\n", "docv2: There is no user bob@example.org\n"),
    ],
)
def test_a_password_that_cannot_be_set_is_told(data_dir: Path, email: str, given: str, message: str) -> None:
    run("users", "add", "ada@example.org")
    done = CliRunner().invoke(main, ["users", "passwd", email], input=given)
    assert (done.exit_code, done.stderr) == (1, message)


def test_what_there_is_is_listed(data_dir: Path) -> None:
    run("users", "add", "ada@example.org", "--name", "Ada Lovelace")
    run("users", "add", "bob@example.org", "--role", "admin")
    lines = run("users", "list").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["EMAIL", "ROLE"],
        ["ada@example.org", "user"],
        ["bob@example.org", "admin"],
    ]
    key = run("keys", "create", "ada@example.org", "--name", "laptop").stdout.strip()
    listing = run("keys", "list", "ada@example.org").stdout
    assert "laptop" in listing
    assert key not in listing
    assert key[:9] in listing


def test_a_revoked_key_is_none(data_dir: Path) -> None:
    run("users", "add", "ada@example.org")
    key = run("keys", "create", "ada@example.org").stdout.strip()
    key_id = run("keys", "list", "ada@example.org").stdout.splitlines()[1].split()[0]
    assert run("keys", "revoke", key_id).exit_code == 0
    with pytest.raises(docv2.errors.Unauthenticated):
        owner_of(data_dir, key)
    again = run("keys", "revoke", key_id)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == f"docv2: There is no key {key_id}, or it is revoked already\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("users", "add", "nobody"), "The e-mail address must look like name@host"),
        (("users", "add", "ada@example.org"), "e-mail"),
        (("keys", "create", "bob@example.org"), "There is no user bob@example.org"),
        (("keys", "list", "bob@example.org"), "There is no user bob@example.org"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_1(data_dir: Path, arguments: tuple[str, ...], told: str) -> None:
    run("users", "add", "ada@example.org")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert told in result.stderr


def test_a_usage_error_is_status_2(data_dir: Path) -> None:
    assert run("users", "add", "ada@example.org", "--role", "root").exit_code == 2
    assert run("nonsense").exit_code == 2


@pytest.mark.parametrize(
    ("variables", "lines"),
    [
        ({"DOCV2_PORT": "http"}, ["docv2: DOCV2_PORT='http': must be a whole number, at least 0, at most 65535"]),
        ({"API_V2_TIMOUT": "5"}, ["docv2: API_V2_TIMOUT: unknown setting; did you mean API_V2_TIMEOUT?"]),
        (
            {"DOCV2_PORT": "-1", "API_V2_ENABLED": "x"},
            [
                "docv2: DOCV2_PORT='-1': must be a whole number, at least 0, at most 65535",
                "docv2: API_V2_ENABLED='x': must be true or false",
            ],
        ),
        ({"DOCV2_LOG_FILE": "/proc/no/such"}, ["docv2: DOCV2_LOG_FILE=/proc/no/such: No such file or directory"]),
    ],
)
def test_a_wrong_setting_stops_the_start_with_status_2(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], lines: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run("serve")
    assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (2, "", lines)


def test_the_command_line_wins_over_the_environment(data_dir: Path, tmp_path: Path) -> None:
    assert run("serve", "--port", "http").stderr.startswith("docv2: DOCV2_PORT='http': ")
    assert run("users", "add", "ada@example.org", "--data-dir", str(tmp_path / "other")).exit_code == 0
    assert (tmp_path / "other" / "docv2.db").exists()
    assert not (data_dir / "docv2.db").exists()


def test_a_data_folder_that_cannot_be_made_is_told(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("users", "list", "--data-dir", str(tmp_path / "file" / "data"))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "DOCV2_DATA_DIR=" in result.stderr


def test_a_database_that_is_none_is_told(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "docv2.db").write_bytes(b"not a database" * 1000)
    result = run("users", "list")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_a_port_that_is_taken_stops_the_start_with_one_line(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.run(
            [Path(sys.executable).with_name("docv2"), "serve", "--port", str(port)],
            env={
                "DOCV2_DATA_DIR": str(data_dir),
                "OPENAI_API_BASE_URL": "http://127.0.0.1:1/v1",
                "OPEN_WEBUI_LOG_LEVEL": "ERROR",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == f"docv2: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_accounts_can_be_looked_after_beside_a_server(data_dir: Path) -> None:
    """The server holds the lock and the database; neither keeps the command line out."""
    data_dir.mkdir()

    async def beside() -> None:
        async with await SQLiteStore.open(data_dir / "docv2.db"):
            for arguments in (
                ("users", "add", "ada@example.org"),
                ("keys", "create", "ada@example.org"),
                ("users", "list"),
            ):
                result = await asyncio.to_thread(run, *arguments)
                assert result.exit_code == 0, result.output

    asyncio.run(beside())
    with sqlite3.connect(data_dir / "docv2.db") as connection:
        assert connection.execute("SELECT email FROM users").fetchall() == [("ada@example.org",)]
    connection.close()


def test_a_user_is_shut_out_and_let_in_again(data_dir: Path) -> None:
    run("users", "add", "ada@example.org")
    key = run("keys", "create", "ada@example.org").output.strip()
    assert run("users", "disable", "ada@example.org").exit_code == 0
    with pytest.raises(Unauthenticated):
        owner_of(data_dir, key)
    assert run("users", "enable", "ada@example.org").exit_code == 0
    assert owner_of(data_dir, key).email == "ada@example.org"


def test_a_key_is_rotated(data_dir: Path) -> None:
    run("users", "add", "ada@example.org")
    old = run("keys", "create", "ada@example.org").output.strip()
    key_id = run("keys", "list", "ada@example.org").output.splitlines()[1].split()[0]
    new = run("keys", "rotate", "ada@example.org", key_id).output.strip()
    assert owner_of(data_dir, new).email == "ada@example.org"
    with pytest.raises(Unauthenticated):
        owner_of(data_dir, old)
    assert run("keys", "rotate", "ada@example.org", "key_none").exit_code == 1


def test_models_are_listed_with_what_is_said_of_them(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_BASE_URLS", "http://127.0.0.1:1/v1")
    run("users", "list")

    async def prepare() -> None:
        async with await SQLiteStore.open(data_dir / "docv2.db") as store:
            told = [{"id": "gpt-4o", "name": "gpt-4o"}, {"id": "org/reader:7b", "name": "Reader", "vision": False}]
            await store.save_note("catalog", "http://127.0.0.1:1/v1", {"models": told})
            await store.enqueue(new_task(model="org/reader:7b"))

    asyncio.run(prepare())
    said = ("--no-vision", "--fallback", "gpt-4o", "--user", "ada@example.org", "--user", "Mary@example.org")
    assert run("models", "set", "extra", *said, "--context", "5000").output == ""
    assert run("models", "set", "extra", "--name", "Extra").exit_code == 0
    head, *rows = run("models", "list").output.splitlines()
    assert head.split() == ["MODEL", "NAME", "SEES", "CONTEXT", "FALLBACK", "FOR", "WAITING", "ENDPOINT"]
    assert [re.split(r"  +", row)[:7] for row in rows] == [
        ["gpt-4o", "gpt-4o", "yes (table)", "128000 (table)", "-", "everyone", "0"],
        ["org/reader:7b", "Reader", "no (endpoint)", "32768 (assumed)", "-", "everyone", "1"],
        [
            "extra",
            "Extra",
            "no (entry)",
            "5000 (entry)",
            "gpt-4o",
            "ada@example.org, mary@example.org",
            "0",
        ],
    ]
    assert run("models", "remove", "extra").exit_code == 0
    assert run("models", "remove", "extra").stderr == "docv2: Nothing is said of such a model\n"
    assert "extra" not in run("models", "list").output
    refused = run("models", "set", "gpt-4o", "--temperature", "3")
    assert (refused.exit_code, refused.stderr.count("model_configs.gpt-4o.temperature")) == (1, 1)


def test_tasks_are_listed_and_a_failed_one_is_tried_again(data_dir: Path) -> None:
    run("users", "list")

    async def prepare() -> str:
        async with await SQLiteStore.open(data_dir / "docv2.db") as store:
            task = await running(store)
            await store.fail(task.claim, "It broke.", "processing_error")
            return task.task_id

    task_id = asyncio.run(prepare())
    assert task_id in run("tasks", "list", "--status", "failed").output
    assert run("queue", "show").output == "open: 0 waiting, 0 running\n"
    assert run("tasks", "retry", task_id).exit_code == 0
    assert run("tasks", "retry", task_id).exit_code == 1
    assert run("queue", "pause").exit_code == 0
    assert run("queue", "show").output == "paused: 1 waiting, 0 running\n"
    run("queue", "resume")
    assert run("queue", "show").output.startswith("open")
