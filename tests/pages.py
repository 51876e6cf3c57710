"""Pages whose examples are run as they stand, and the shell that runs them."""

from __future__ import annotations

import asyncio
import os
import re
from asyncio.subprocess import PIPE
from pathlib import Path

from docv2.settings import OWN_PREFIXES
from tests.programs import require

ROOT = Path(__file__).parents[1]
SEEDS = Path(os.environ.get("DOCV2_SEEDS") or ROOT.parent / "shared/seeds")
"""Where the documents lie that the service was made from. They are not part of the repository, and may be absent."""
DESCRIPTION = SEEDS / "API_V2_DOCUMENTATION.md"
GUIDE = SEEDS / "API_V2_ADMIN_GUIDE.md"

SECONDS = 100.0
"""That a program may take."""

CURLRC = """\
silent
show-error
write-out = "%{stderr}%{http_code}\\n"
"""
"""Makes every curl tell its status on standard error, without a word changed in its command."""


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a page of Markdown."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def curls(text: str) -> list[str]:
    """The commands of a page that begin with `curl`, with the lines that belong to them; those of scripts left out."""
    shell = [block for block in blocks(text, "(?:ba)?sh") if not block.startswith("#!")]
    return [
        command for block in shell for command in re.findall(r"^curl (?:'[^']*'|\\\n|[^'\n])*", block, re.MULTILINE)
    ]


def script(title: str) -> str:
    """A script of the guide as it is printed there."""
    [found] = [block for block in blocks(GUIDE.read_text(encoding="utf-8"), "bash") if f"# {title}\n" in block]
    return found


async def run(*arguments: str | Path, given: str = "", cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a program. Of docv2's settings it has those given here, no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=cwd, env=inherited | environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(SECONDS):
        out, errors = await process.communicate(given.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def curl(command: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Run a command with curl in it in the folder: the status of the answer, and what the command prints."""
    require("curl")
    (folder / ".curlrc").write_text(CURLRC)
    code, out, errors = await run(
        require("bash"), "-o", "pipefail", "-c", command, cwd=folder, CURL_HOME=str(folder), **environment
    )
    assert (code, errors.strip().isdecimal()) == (0, True), (command, out, errors)
    return int(errors), out
