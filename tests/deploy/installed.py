"""docv2 installed on a machine of its own, and what one does with it there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy.machine import Machine
from tests.deploy.proxy import ROOT

URL = "http://127.0.0.1:3000"
FAST = {"PIP_NO_COMPILE": "1", **{name: value for name, value in os.environ.items() if name.startswith("PIP_")}}
QUESTION = "How much is the rent?"


class Installed:
    """A machine on which docv2 is installed, and what the tests do with it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.run = machine.run
        self.folder = folder

    def deploy(self, *arguments: str, source: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess[str]:
        """By an administrator whose files nobody else reads."""
        command = ["sh", "-c", 'umask 027 && exec "$@"', "sh", str(source / "deploy/docv2-deploy"), *arguments]
        return self.run(*command, check=check, outside_network=True, environ=FAST)

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        done = self.run("systemctl", *arguments, check=False)
        assert done.returncode == 0 or not check, done.stderr + self.journal()[-2000:]
        return done.stdout.strip()

    def shown(self, name: str, unit: str = "docv2") -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def journal(self, unit: str = "docv2") -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def curl(self, *arguments: str | Path) -> tuple[int, str]:
        """Status and body."""
        done = self.run("curl", "--silent", "--write-out", "\n%{http_code}", *arguments, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def request(self, path: str, *arguments: str | Path) -> Any:
        status, body = self.curl("--header", f"Authorization: Bearer {self.key}", *arguments, f"{URL}{path}")
        assert status == 200, body
        return json.loads(body)

    @property
    def key(self) -> str:
        return self.run("cat", "/var/lib/docv2/first-administrator.key").stdout.strip()

    def submit(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        form = ("--form", f"file=@{self.folder / name}", "--form", f"prompt={QUESTION}")
        return str(self.request("/api/v2/process", *form)["task_id"])

    def finished(self, task_id: str) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            body = self.request(f"/api/v2/status/{task_id}?wait=20")
            if body["status"] in ("completed", "failed"):
                return body
        raise AssertionError(body)

    def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.journal()[-3000:]
            time.sleep(0.1)

    def files(self, patterns: str) -> list[str]:
        """Those that a shell finds."""
        return self.run("sh", "-c", f"ls -d {patterns} 2>/dev/null || true").stdout.split()
