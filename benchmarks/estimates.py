"""How honest the estimates are: what 200 mixed documents were told at acceptance, against what they waited and took.

    python -m benchmarks.estimates [--tasks 200] [--seed 1] [--gap 0.1] [--folder FOLDER]

A model of its own answers after a time that grows with text and pictures, with the spread that hosted models show, and
serves so many calls at once; documents of all types come in waves, so that the queue fills and drains. Prints the
median error of the whole time, of the wait and of the work; exit status 1 where the first is above a quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
from aiohttp import web

from benchmarks.processes import DOCV2, program
from tests.documents import docx, encoded, page_picture, scanned_pdf, text_pdf

GOAL = 0.25
SLOTS = 4
MODELS = {"quick": 1.0, "slow": 2.5}
"""Models and how much longer each takes."""
SENTENCE = "The party named above pays what is due within thirty days of receipt, unless it is agreed otherwise. "


# -- the model --------------------------------------------------------------------------------------------------------
async def serve() -> None:
    """Answer until ended."""
    chance, at_once = random.Random(7), asyncio.Semaphore(2 * SLOTS)

    async def chat(request: web.Request) -> web.Response:
        asked = await request.json()
        content = asked["messages"][-1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = sum(len(part["text"]) for part in parts if part["type"] == "text")
        pictures = sum(part["type"] == "image_url" for part in parts)
        seconds = (0.25 + text / 100_000 + 0.12 * pictures) * MODELS[asked["model"]] * chance.lognormvariate(0, 0.25)
        async with at_once:
            await asyncio.sleep(seconds)
        choice = {"index": 0, "message": {"role": "assistant", "content": "It is due in thirty days."}}
        usage = {"prompt_tokens": text // 4 + 800 * pictures, "completion_tokens": 8}
        return web.json_response({"choices": [{**choice, "finish_reason": "stop"}], "usage": usage})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name, "max_model_len": 32_768} for name in MODELS]})

    application = web.Application(client_max_size=2**28)
    application.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


# -- the load ---------------------------------------------------------------------------------------------------------
def documents(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Documents of all types and lengths without end: most are short, a few are long."""
    scan = page_picture(SENTENCE * 3)
    page = "\n".join([SENTENCE] * 40)
    while True:
        length = max(1, min(80, round(chance.lognormvariate(1.6, 1.0))))
        kind = chance.choices(["txt", "pdf", "scan", "docx", "png"], [30, 30, 15, 15, 10])[0]
        if kind == "txt":
            yield "note.txt", (SENTENCE * 30 * length).encode()
        elif kind == "pdf":
            yield "report.pdf", text_pdf([f"{number}\n{page}" for number in range(length)])
        elif kind == "scan":
            yield "scan.pdf", scanned_pdf([scan] * min(length, 15))
        elif kind == "docx":
            yield "letter.docx", docx([SENTENCE * 10] * (3 * length))
        else:
            yield "picture.png", encoded(scan)


async def send(url: str, key: str, tasks: int, seed: int, gap: float) -> None:
    """Hand in the load: waves of documents, with pauses in which the queue drains."""
    chance = random.Random(seed)
    made = documents(chance)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for number in range(tasks):
            name, content = next(made)
            form = aiohttp.FormData({"prompt": "When is it due?", "model": chance.choice(list(MODELS))})
            form.add_field("file", content, filename=name)
            async with session.post(f"{url}/api/v2/process", data=form) as response:
                assert response.status == 200, await response.text()
            await asyncio.sleep(chance.expovariate(1 / (60 * gap if number % 50 == 49 else gap)))
        while True:
            async with session.get(f"{url}/api/v2/health") as response:
                health = await response.json()
            if not health["queue_length"] and not health["active_tasks"]:
                return
            await asyncio.sleep(0.2)


def errors(rows: list[tuple[float, ...]]) -> dict[str, list[float]]:
    """How far off each estimate was, as a share of it: of the whole time, the wait, the work."""
    found: dict[str, list[float]] = {"whole": [], "wait": [], "work": []}
    for estimated_wait, estimated_work, waited, worked in rows:
        found["whole"].append(abs((waited + worked) / (estimated_wait + estimated_work) - 1))
        found["work"].append(abs(worked / estimated_work - 1))
        if waited > 1:
            found["wait"].append(abs(waited / max(estimated_wait, 0.1) - 1))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimates", description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gap", type=float, default=0.1, help="mean seconds between documents (default 0.1)")
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    parser.add_argument("--model", action="store_true", help="be the model")
    given = parser.parse_args()
    if given.model:
        asyncio.run(serve())
        return
    with tempfile.TemporaryDirectory(prefix="docv2-bench-", dir=given.folder) as folder:
        data_dir = Path(folder) / "data"
        with program((sys.executable, "-m", "benchmarks.estimates", "--model")) as (_, endpoint):
            settings = {
                "OPENAI_API_BASE_URLS": endpoint,
                "DOCV2_DATA_DIR": str(data_dir),
                "DOCV2_PORT": "0",
                "API_V2_MAX_CONCURRENT": str(SLOTS),
                "API_V2_ADMIN_CONFIG": json.dumps({"rate_limits": {"per_minute": 10_000, "per_hour": 100_000}}),
            }
            with program(DOCV2, data_dir.with_suffix(".log"), **settings) as (_, url):
                key = (data_dir / "first-administrator.key").read_text().strip()
                began = time.monotonic()
                asyncio.run(send(url, key, given.tasks, given.seed, given.gap))
                took = time.monotonic() - began
        with closing(sqlite3.connect(data_dir / "docv2.db")) as database:
            rows = database.execute(
                "SELECT estimated_wait, estimated_work, started_at - created_at, ended_at - started_at FROM tasks "
                "WHERE status = 'completed' ORDER BY place"
            ).fetchall()
    found = errors(rows)
    print(f"{len(rows)} tasks in {took:.0f} s; they waited {statistics.fmean(row[2] for row in rows):.1f} s on average")
    for name, values in found.items():
        quarters = statistics.quantiles(values, n=4)
        print(
            f"{name:6} median error {statistics.median(values):6.1%}   quartiles {quarters[0]:.1%} to {quarters[2]:.1%}"
        )
    if statistics.median(found["whole"]) > GOAL:
        sys.exit(f"the median error is above {GOAL:.0%}")


if __name__ == "__main__":
    main()
