"""The folders in which tasks keep their pages while they are worked on."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path


class WorkFolders:
    """One folder a task, named by its id, always on the local disk."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root

    def path(self, task_id: str) -> Path:
        """Where a task's pages lie."""
        return self._root / task_id

    async def make(self, task_id: str) -> Path:
        """The task's folder, made if it is not there."""
        path = self.path(task_id)
        await asyncio.to_thread(path.mkdir, mode=0o700, exist_ok=True)
        return path

    async def remove(self, task_id: str) -> None:
        """Remove the folder with all that is in it; nothing happens where there is none."""
        await asyncio.to_thread(shutil.rmtree, self.path(task_id), ignore_errors=True)

    async def names(self) -> list[str]:
        """Ids of the tasks that have a folder."""
        return await asyncio.to_thread(lambda: [path.name for path in self._root.iterdir()])
