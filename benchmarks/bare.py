"""The yardstick: aiohttp with handlers that do no more than they must. A process of its own.

python -m benchmarks.bare FOLDER      prints its URL
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import uuid
from pathlib import Path

from aiohttp import BodyPartReader, web

STATUS = {
    "task_id": str(uuid.uuid4()),
    "status": "queued",
    "progress": 0.0,
    "message": "Waiting for its turn",
    "created_at": 1764000000.123,
    "memory_usage": {"used_percent": 41.5, "available_mb": 14000, "total_mb": 24000},
    "position": 4711,
    "estimated_time": 1200,
    "waiting_reason": "slots",
}
FOLDER = web.AppKey("folder", Path)


async def status(_: web.Request) -> web.Response:
    """A JSON body of the size that docv2 answers with."""
    return web.json_response(STATUS)


async def raw(request: web.Request) -> web.Response:
    """The body as it comes: hashed, written, flushed to the disk."""
    digest = hashlib.sha256()
    path = request.app[FOLDER] / uuid.uuid4().hex
    with path.open("wb", buffering=0) as file:
        async for piece in request.content.iter_any():
            digest.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    path.unlink()
    return web.json_response({"sha256": digest.hexdigest()})


async def multipart(request: web.Request) -> web.Response:
    """A form read into memory, part by part, and let go."""
    sizes = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        sizes[str(part.name)] = len(await part.read())
    return web.json_response(sizes)


async def main() -> None:
    """Answer until it is ended."""
    app = web.Application(client_max_size=256 * 1024**2)
    app[FOLDER] = Path(sys.argv[1])
    app.router.add_get("/status/{task_id}", status)
    app.router.add_post("/raw", raw)
    app.router.add_post("/multipart", multipart)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
