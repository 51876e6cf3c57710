"""The sweep at start: what belongs to no task goes, what is needed stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

from docv2.config import Config, RuntimeConfig
from docv2.storage.local import LocalStorage
from docv2.store.sqlite import SQLiteStore
from docv2.worker import maintenance
from docv2.worker.folders import WorkFolders
from tests.conformance.samples import RESULT, enqueue, running


async def test_files_go_that_no_task_needs_any_more(store: SQLiteStore, tmp_path: Path) -> None:
    storage, folders = LocalStorage(tmp_path / "files"), WorkFolders(tmp_path / "work")
    completed, failed, waiting = await running(store), await running(store), await enqueue(store)
    await store.complete(completed.claim, RESULT)
    await store.fail(failed.claim, "The file is encrypted.", "processing_error")

    def leave_files() -> None:
        for name in (completed.task_id, failed.task_id, waiting.task_id, "half-an-upload"):
            (tmp_path / "files" / "documents" / name).write_bytes(b"a document")
            folders.path(name).mkdir()

    await asyncio.to_thread(leave_files)
    await maintenance.sweep(store, storage, folders, RuntimeConfig(Config()))
    needed = {failed.task_id, waiting.task_id}
    assert (set(await storage.names()), set(await folders.names())) == (needed, needed)
