"""The documents and the full database that the benchmarks work on, each made once and kept for the next run."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
import uuid
from contextlib import closing
from pathlib import Path

from PIL import Image

from docv2.store.engine import DRIVER
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import NewTask, Result
from tests.documents import noisy_picture, page_picture, scanned_pdf, text_pdf

WAITING = 100_000
ENDED = 2_000
SENTENCE = "the total of the invoice is due in full within thirty days of receipt by the party named above in clause"
RESULT = Result(content="The total is 42. " * 20, model_used="model-a", finish_reason="stop")


def new_task(number: int) -> NewTask:
    """One of many that differ in model, type and size."""
    return NewTask(
        task_id=str(uuid.uuid4()), user_id="user-1", filename="report.pdf", sha256="0" * 64,
        prompt="What is the total? " * 5, size=50_000 + number % 1000, model=f"model-{number % 3}",
        media_type=("application/pdf", "text/plain", "image/png", "image/jpeg")[number % 4],
        temperature=0.7, max_tokens=8000,
    )  # fmt: skip


async def fill(store: SQLiteStore, count: int) -> list[str]:
    """Enqueue tasks a thousand at a time; their ids."""
    ids: list[str] = []
    for first in range(0, count, 1000):
        tasks = [new_task(number) for number in range(first, min(first + 1000, count))]
        await asyncio.gather(*map(store.enqueue, tasks))
        ids += [task.task_id for task in tasks]
    return ids


def full_database(folder: Path, into: Path) -> list[str]:
    """Leave a database of 100,000 waiting and some ended tasks in a data folder; ids, half of them waiting.

    What waits is not due for a year, so that it stays when a server starts on it.
    """
    made = folder / "full.db"
    if not made.exists():
        asyncio.run(_make_full(made))
    into.mkdir(parents=True)
    shutil.copy(made, into / "docv2.db")
    with closing(DRIVER.connect(made)) as database:
        chosen = random.Random(1)  # the same ones in each run
        return [
            task_id
            for wanted in ("status = 'waiting'", "status <> 'waiting'")
            for (task_id,) in chosen.sample(
                database.execute(f"SELECT task_id FROM tasks WHERE {wanted}").fetchall(), 1000
            )
        ]


async def _make_full(path: Path) -> None:
    async with await SQLiteStore.open(path) as store:
        await fill(store, ENDED)
        for _ in range(ENDED):
            task = await store.claim("server-1")
            assert task is not None
            await store.complete(task.claim, RESULT)
        await fill(store, WAITING)
    with closing(DRIVER.connect(path)) as database:
        database.execute("UPDATE tasks SET not_before = ? WHERE status = 'waiting'", (time.time() + 365 * 86400,))
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def scan(folder: Path, pages: int) -> bytes:
    """A PDF of scanned pages, 0.65 MB each: print on grainy paper at 200 dpi. 70 make 45 MB, 77 make 50."""
    path = folder / f"scan-{pages}.pdf"
    if not path.exists():
        # Half a dozen different pictures are enough; each page has its own copy in the file.
        size = (1654, 2339)
        pictures = [
            Image.blend(page_picture(f"Page {number}\n{prose(2500)}", size), noisy_picture(size, 14), 0.5)
            for number in range(6)
        ]
        path.write_bytes(scanned_pdf([pictures[number % 6] for number in range(pages)]))
    return path.read_bytes()


def prose(characters: int, width: int = 90) -> str:
    """Lines of words."""
    chosen, words, lines, length = random.Random(characters), SENTENCE.split(), [""], 0
    while length < characters:
        word = chosen.choice(words)
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
        length += len(word) + 1
    return "\n".join(lines)


def written(pages: int) -> bytes:
    """A PDF of dense text."""
    return text_pdf([f"Page {number}\n{prose(3000 + number)}" for number in range(1, pages + 1)])
