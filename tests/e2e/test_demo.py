"""`make demo`, but for the making: it answers, cleans up after itself, and says what went wrong."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import httpx2
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


async def run(demo: Path, tmp_path: Path) -> tuple[int, str, str]:
    """Exit status and output, started from where a hostile `.env` lies, under settings that must not matter."""
    (tmp_path / ".env").write_text("API_V2_ENABLED=perhaps\n")
    misleading = {"DOCV2_PORT": "1", "DOCV2_DATA_DIR": "/proc/none", "OPENAI_API_BASE_URL": "http://127.0.0.1:9/v1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, demo),
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)} | misleading,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(110):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_demonstration(tmp_path: Path) -> None:
    status, out, err = await run(DEMO, tmp_path)
    assert status == 0, err
    assert err == ""
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", out), "clean in a pipe"
    found_in = {"lease.pdf": "2,150 euros", "invoice.pdf": "1,300.59 euros", "minutes.docx": "The finance committee"}
    answers = re.split(r"^(\S+), a .*$", out, flags=re.MULTILINE)[1:]
    assert answers[::2] == list(found_in)
    for name, answer in zip(answers[::2], answers[1::2], strict=True):
        assert found_in[name] in answer

    found = re.search(r"sqlite3 -readonly (\S+)", out)
    assert found, "it says where the database is"
    with sqlite3.connect(f"file:{found[1]}?mode=ro", uri=True) as database:
        ended = database.execute("SELECT filename, status FROM tasks ORDER BY place").fetchall()
    database.close()
    assert ended == [(name, "completed") for name in found_in]

    page = re.search(r"^API +(\S+)$", out, re.MULTILINE)
    assert page
    assert Path(page[1]).is_file()
    assert "http://127.0.0.1:3000/docs" in out, "where the server of `make serve` has it"

    url = re.search(r"http://127\.0\.0\.1:\d+", out)
    assert url
    with pytest.raises(httpx2.ConnectError):
        await asyncio.to_thread(httpx2.get, url[0])


async def test_a_demonstration_that_fails_shows_what_the_server_said(tmp_path: Path) -> None:
    alone = tmp_path / "demo.py"
    shutil.copy(DEMO, alone)
    status, _, err = await run(alone, tmp_path)
    assert status == 1
    assert "The demonstration failed" in err
    assert "docv2.web.app: ready" in err
