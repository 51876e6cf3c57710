"""What was acknowledged is there after kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import new_task

ACKNOWLEDGED_BEFORE_THE_KILL = 150

ENQUEUE = """
import asyncio, sys
from pathlib import Path
from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import enqueue

async def client(store):
    while True:
        print((await enqueue(store)).task_id, flush=True)

async def main():
    async with await SQLiteStore.open(Path(sys.argv[1])) as store:
        await asyncio.gather(*(client(store) for _ in range(8)))

asyncio.run(main())
"""


async def test_nothing_acknowledged_is_lost_by_kill(tmp_path: Path) -> None:
    path = tmp_path / "docv2.db"
    acknowledged: list[str] = []
    for _ in range(5):
        # The next run opens what the kill left behind.
        with subprocess.Popen([sys.executable, "-c", ENQUEUE, str(path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            acknowledged += [child.stdout.readline().strip() for _ in range(ACKNOWLEDGED_BEFORE_THE_KILL)]
            child.send_signal(signal.SIGKILL)
            # What it still said before it died counts as well; a line cut short does not.
            acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    assert len(set(acknowledged)) == len(acknowledged) >= 5 * ACKNOWLEDGED_BEFORE_THE_KILL
    async with await SQLiteStore.open(path) as store:
        found = await store.known(acknowledged)
        assert set(found) == set(acknowledged)
        depth = await store.depth()
        assert depth.waiting == sum(group.tasks for group in await store.backlog()) >= len(acknowledged)
        assert (await store.enqueue(new_task())).place > max(task.place for task in found.values())
