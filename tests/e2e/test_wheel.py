"""The wheel, built from what is committed, installed into a fresh environment, started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e.server import Server

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
async def test_the_wheel_holds_everything_that_a_server_needs(tmp_path: Path) -> None:
    def build_and_install() -> Path:
        source = tmp_path / "source"
        source.mkdir()
        files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
        for name in files:
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((ROOT / name).read_bytes())
        run(
            sys.executable, "-W", "ignore", "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=source
        )
        [wheel] = tmp_path.glob("*.whl")
        packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        modules = {name for name in files if name.startswith("docv2/") and name.endswith((".py", ".sql", ".typed"))}
        migrations = {
            name.replace("migrations/", "docv2_migrations/") for name in files if name.startswith("migrations/")
        }
        assert packed >= modules | migrations, "and a package that setup.cfg forgot would be missing here"
        assert not {name for name in packed if not name.startswith(("docv2/", "docv2_migrations/"))}
        venv.create(tmp_path / "fresh", with_pip=True)
        python = tmp_path / "fresh/bin/python"
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=tmp_path)
        run(*pip, "--no-deps", wheel, cwd=tmp_path)
        return python

    python = await asyncio.to_thread(build_and_install)
    server = Server(tmp_path / "data", program=python.with_name("docv2"))
    try:
        await server.start()
        status, version = await server.request("GET", "/api/version")
        assert status == 200
        assert version["version"]
        body = await server.finished(await server.submit(b"The rent is 700 euro a month.", prompt="What is the rent?"))
        assert "700 euro" in body["result"]["content"], "the embedded reader answers, from packages alone"
    finally:
        await server.close()
    assert "PYTHONPATH" not in os.environ
