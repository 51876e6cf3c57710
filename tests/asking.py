"""One task put to a scripted model: a real store, real files and a real HTTP endpoint, without a server around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docv2.config import Config
from docv2.documents import Page, PageSource
from docv2.events import Changes
from docv2.llm.catalog import Catalog, candidates
from docv2.llm.client import Endpoint
from docv2.llm.forms import FormCheck
from docv2.llm.health import EndpointHealth
from docv2.llm.learned import Learned
from docv2.sandbox import Sandbox
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import Part, Result, Task
from docv2.worker.asking import Asking, Means, text_sizes
from docv2.worker.clock import step_clock
from docv2.worker.turns import Turns
from tests.conformance.samples import new_task
from tests.endpoint import ScriptedEndpoint

CONFIG = Config(enabled=True, max_file_size=1, max_concurrent=4, timeout=60, max_task_seconds=600, admin_model="")


def text(number: int, said: str) -> tuple[Page, str]:
    """A page of text."""
    return Page(number, PageSource.TEXT, "has text", chars=len(said)), said


def picture(number: int, said: str) -> tuple[Page, str]:
    """A page that is a picture, whose bytes say something."""
    return Page(number, PageSource.PICTURE, "scanned", picture_width=600, picture_height=800), said


def both(number: int, said: str) -> tuple[Page, str]:
    """A page of text with a picture."""
    return Page(number, PageSource.BOTH, "has a chart", len(said), 600, 800), said


def unread(number: int, reason: str = "damaged") -> tuple[Page, str]:
    """A page that nobody could read."""
    return Page(number, PageSource.NONE, reason), ""


@dataclass
class Desk:
    """Where tasks are asked."""

    store: SQLiteStore
    endpoint: ScriptedEndpoint
    catalog: Catalog
    learned: Learned
    means: Means
    folder: Path

    async def task(self, pages: Sequence[tuple[Page, str]], prompt: str, **changes: Any) -> Task:
        """A running task whose document was read."""
        await self.store.enqueue(new_task(prompt=prompt, model="reader", **changes))
        task = await self.store.claim("desk")
        assert task is not None
        folder = self.folder / task.task_id
        folder.mkdir()
        for page, said in pages:
            if page.has_text:
                page.text_path(folder).write_text(said)
            if page.has_picture:
                page.picture_path(folder).write_bytes(said.encode())
        await self.store.save_pages(task.claim, [page for page, _ in pages], progress=30, pages_total=len(pages))
        return task

    async def ask(self, task: Task) -> Result:
        """Ask once, as one attempt does."""
        folder, pages = self.folder / task.task_id, await self.store.pages(task.task_id)
        sizes = await text_sizes(pages, folder)
        model = candidates(self.catalog, "reader", pages, lambda _: True)[0].model
        async with step_clock(CONFIG, task) as clock:
            asking = Asking(task, pages, sizes, folder, model, self.catalog.endpoint(model), clock, self.means)
            return await asking.run()

    async def again(self, task: Task) -> Task:
        """The task as the next attempt claims it."""
        await self.store.release(task.claim)
        claimed = await self.store.claim("desk")
        assert claimed is not None
        assert claimed.task_id == task.task_id
        return claimed

    async def answer(self, pages: Sequence[tuple[Page, str]], prompt: str, **changes: Any) -> Result:
        """Ask about a document."""
        return await self.ask(await self.task(pages, prompt, **changes))

    async def parts(self, task: Task, level: int | None = None) -> list[Part]:
        """What is kept of a task."""
        return [part for part in await self.store.parts(task.task_id) if level in (None, part.level)]


@asynccontextmanager
async def open_desk(store: SQLiteStore, folder: Path, endpoint: ScriptedEndpoint) -> AsyncIterator[Desk]:
    """A desk before an endpoint that lists its models."""
    learned = Learned(store)
    async with Endpoint(endpoint.base_url, learned=learned) as client:
        catalog = Catalog([client], store, learned)
        await catalog.load()
        await catalog.refresh()
        sandbox = Sandbox()
        try:
            means = Means(store, Changes(), EndpointHealth(catalog), Turns(), FormCheck(sandbox))
            yield Desk(store, endpoint, catalog, learned, means, folder)
        finally:
            await sandbox.close()
