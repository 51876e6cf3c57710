"""The processes of a benchmark: the server under test, the yardstick, the model endpoint, and what memory they hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.load import FORM_TYPE, call, form

REPOSITORY = Path(__file__).parent.parent
DOCV2 = (str(Path(sys.executable).with_name("docv2")), "serve")
"""The installed command of the interpreter that runs the benchmark."""
PROBED = (sys.executable, "-m", "benchmarks.probe", "serve")

NO_LIMITS = {
    "rate_limits": dict.fromkeys(("per_minute", "per_hour", "per_day"), 1_000_000),
    "queue_limits": dict.fromkeys(("per_user", "total"), 1_000_000),
}
"""All that is sent here comes from one user within a minute."""


@contextmanager
def program(
    command: Sequence[str], log: Path | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that logs to a file, and the last word of its first line: where it answers."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    with log.open("ab") if log else nullcontext() as stderr:
        process = subprocess.Popen(
            command, env={**kept, **environment}, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"{' '.join(command)} did not start{f': {log.read_text()[-2000:]}' if log else ''}"
        yield process, line.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def bare(folder: Path) -> Iterator[str]:
    """The yardstick's URL."""
    with program((sys.executable, "-m", "benchmarks.bare", str(folder))) as (_, url):
        yield url


@contextmanager
def serving(
    data_dir: Path, command: Sequence[str] = DOCV2, *, paused: bool = False, **settings: str
) -> Iterator[Server]:
    """A server over a folder, with a model endpoint that answers at once. Paused, it takes tasks and starts none."""
    with program((sys.executable, "-m", "benchmarks.endpoint")) as (_, endpoint):
        environment = {
            "OPENAI_API_BASE_URLS": endpoint,
            "DOCV2_DATA_DIR": str(data_dir),
            "DOCV2_PORT": "0",
            "DOCV2_DRAIN_SECONDS": "0",
            "API_V2_ADMIN_CONFIG": json.dumps({**NO_LIMITS, "paused": paused}),
            **settings,
        }
        began = time.perf_counter()
        with program(command, data_dir.with_suffix(".log"), **environment) as (process, url):
            call(url, "GET", "/api/version")
            key = (data_dir / "first-administrator.key").read_text().strip()
            yield Server(process.pid, url, key, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Server:
    """A docv2 that answers."""

    pid: int
    url: str
    key: str
    start_seconds: float
    """From the command to the first answer."""

    def submit(self, filename: str, content: bytes) -> str:
        """Send a document; the id of its task."""
        answer = call(self.url, "POST", "/api/v2/process", self.key, form(filename, content), FORM_TYPE)
        return str(json.loads(answer)["task_id"])

    def status(self, task_id: str, wait: int = 0) -> dict[str, Any]:
        """A task as it stands."""
        return dict(json.loads(call(self.url, "GET", f"/api/v2/status/{task_id}?wait={wait}", self.key)))

    def completed(self, task_id: str) -> None:
        """Wait for a task's end, which must be a good one."""
        body = self.status(task_id)
        while body["status"] not in ("completed", "failed"):
            body = self.status(task_id, wait=60)
        assert body["status"] == "completed", body


# -- memory -----------------------------------------------------------------------------------------------------------
def tree(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(below for child in children for below in tree(int(child)))]
    except FileNotFoundError:
        return []


def memory(pid: int) -> float:
    """MiB that a process and all below it hold. What several share is counted once (PSS)."""
    total = 0
    for one in tree(pid):
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


class Peak:
    """The most memory that a process and all below it held while the context was open."""

    EVERY = 0.02
    """Seconds between two looks."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mebibytes = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.EVERY):
            self.mebibytes = max(self.mebibytes, memory(self._pid))
