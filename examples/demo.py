"""Starts a server, asks it about three documents, prints what it answers. `make demo` runs it.

Everything goes the way that any client goes: accounts through the command line, documents and questions over HTTP.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from docv2.client import Client, ClientError, Result, Task, TaskFailed
from docv2.commands.terminal import Screen, harmless, one_line

HERE = Path(__file__).parent
DOCV2 = Path(sys.executable).with_name("docv2")
USER = "demo@example.org"
DOCUMENTS = (
    ("lease.pdf", "a PDF of six pages", "What is the monthly rent?"),
    ("invoice.pdf", "a scanned page", "What is the total amount due?"),
    ("minutes.docx", "a Word file", "Who is responsible for the budget?"),
)
"""Files of this folder, what they are, and what is asked of them."""

START_SECONDS = 60
ANSWER_SECONDS = 300
STOP_SECONDS = 60
LOG_LINES = 30
WIDTH = 96
"""Columns."""


class DemoError(Exception):
    """Something that the demonstration needs did not happen."""


def main() -> int:
    """Exit status: 0 when every document was answered and the server stopped as it should."""
    folder = Path(tempfile.mkdtemp(prefix="docv2-demo-"))
    log = folder / "server.log"
    try:
        with server(folder, log) as url:
            say("server", url)
            with Client(url, account(folder)) as client:
                for name, kind, question in DOCUMENTS:
                    print(f"\n{bold(name)}, {kind}\n{bold(question)}")
                    show(ask(client, HERE / name, question))
    except (DemoError, ClientError, OSError) as error:
        print(f"\n{bold('The demonstration failed:')} {one_line(str(error))}\n", file=sys.stderr)
        print(*log_tail(log), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print()
    say("database", f"sqlite3 -readonly {folder / 'docv2.db'} 'SELECT * FROM throughput'")
    say("log", str(log))
    say("API", str(HERE.parent / "docs" / "api.md"))
    say("your turn", "make serve, and its API at http://127.0.0.1:3000/docs")
    return 0


@contextmanager
def server(folder: Path, log: Path) -> Iterator[str]:
    """A server on a free port with its defaults, whatever the caller's environment says; stopped at the end."""
    # Its own session: Ctrl-C reaches only this program, which then stops it. No `.env` is read in its own folder.
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [DOCV2, "serve"],
            cwd=folder,
            env=environment(folder) | {"DOCV2_PORT": "0"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    with process:
        try:
            yield ready(process)
        finally:
            process.terminate()
            try:
                status = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise DemoError(f"the server did not stop within {STOP_SECONDS} s") from None
        if status != 0:
            raise DemoError(f"the server ended with status {status}")


def ready(process: subprocess.Popen[bytes]) -> str:
    """The URL that the server prints once it answers."""
    assert process.stdout is not None
    limit = Timer(START_SECONDS, process.kill)
    limit.start()
    try:
        for line in process.stdout:
            if found := re.search(r"answers on (http://\S+)", line.decode(errors="replace")):
                return found[1]
    finally:
        limit.cancel()
    raise DemoError("the server did not start")


def environment(folder: Path) -> dict[str, str]:
    """Nothing that would configure docv2 but the data folder."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return kept | {"DOCV2_DATA_DIR": str(folder)}


def account(folder: Path) -> str:
    """The API key of a new user, made beside the running server."""
    for arguments in (["users", "add", USER], ["keys", "create", USER, "--name", "demo"]):
        command = subprocess.run(
            [DOCV2, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
        )
        if command.returncode != 0:
            raise DemoError(command.stderr or f"docv2 {arguments[0]} ended with status {command.returncode}")
    return command.stdout.strip()


def ask(client: Client, document: Path, question: str) -> Result:
    """Send a document with its question; the answer, with a progress bar until it is there."""
    screen = Screen(sys.stderr)

    def on_upload(sent: int, total: int | None) -> None:
        screen.draw([screen.line("sending", 100 * sent / total if total else None, "")])

    def on_change(task: Task) -> None:
        screen.draw([screen.line(task.status, task.progress, task.message)])

    try:
        task = client.process(document, question, on_upload=on_upload)
        return client.wait(task.task_id, timeout=ANSWER_SECONDS, on_change=on_change)
    except TaskFailed as error:
        raise DemoError(f"{document.name}: {error.detail}") from None
    finally:
        screen.clear()


def show(result: Result) -> None:
    """Print an answer and what must be known to read it."""
    for paragraph in harmless(result.content).splitlines():
        numbered = re.match(r"\d+\. ", paragraph)
        hanging = " " * (2 + (numbered.end() if numbered else 0))
        print(textwrap.fill(paragraph, WIDTH, initial_indent="  ", subsequent_indent=hanging))
    for warning in result.warnings:
        print(textwrap.fill(f"! {one_line(warning)}", WIDTH, initial_indent="  ", subsequent_indent="    "))


def say(what: str, value: str) -> None:
    """Print a line of a small table."""
    print(f"{bold(f'{what:<11}')}{value}", flush=True)


def bold(text: str) -> str:
    """In bold on a terminal that may be coloured."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def log_tail(log: Path) -> list[str]:
    """What the server said last."""
    if not log.exists():
        return []
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return [f"the last lines of {log}:", *(f"  {one_line(line)}" for line in lines)]


if __name__ == "__main__":
    sys.exit(main())
