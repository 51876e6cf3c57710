"""A real server over a real socket, store and storage. Only the pool does not work: what it would do, the test does."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from docv2.accounts import keys, users
from docv2.accounts.sessions import Sessions
from docv2.bootstrap import Services
from docv2.config import RuntimeConfig, from_settings
from docv2.documents import Page, PageSource
from docv2.estimate import Estimator
from docv2.events import Changes
from docv2.intake import Intake
from docv2.llm.capabilities import Told
from docv2.llm.catalog import Catalog
from docv2.llm.client import Endpoint
from docv2.llm.forms import FormCheck
from docv2.llm.health import EndpointHealth
from docv2.llm.learned import Learned
from docv2.quote import Quotes
from docv2.removal import Removal
from docv2.sandbox import Sandbox
from docv2.settings import Settings
from docv2.storage.local import LocalStorage
from docv2.store.base import User
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import Claim, Result, Stage, Task
from docv2.web.app import listening
from docv2.worker.folders import WorkFolders
from docv2.worker.gate import Gate, Memory
from docv2.worker.pagecache import PageCache
from docv2.worker.pool import Pool

GIB = 1024**3
ENDPOINT = "http://127.0.0.1:1/v1"
"""Nothing listens there; nobody asks it."""
SECRET = "signs the tokens of the tests, long enough"
TEXT = b"An invoice over forty-two euros.\n"
PROMPT = "What is the total?"


@dataclass
class MemoryMeter:
    """What the gate reads."""

    percent: float = 10.0

    def __call__(self) -> Memory:
        return Memory(int(self.percent * GIB), 100 * GIB)


@dataclass
class Site:
    """The server under test, what it stands on, and a client that talks to it."""

    url: str
    services: Services
    store: SQLiteStore
    files: Path
    session: aiohttp.ClientSession
    user: User
    key: str
    meter: MemoryMeter
    stopped: list[str] = field(default_factory=list)
    """Tasks that the pool was told to stop."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def use_memory(self, percent: float) -> None:
        self.meter.percent = percent
        await self.services.gate.sample()

    def configure(self, **changes: Any) -> None:
        """Change the configuration in force."""
        self.services.config.current = self.services.config.current.model_copy(update=changes)

    async def add_user(self, email: str, role: str = "user") -> str:
        """A key of somebody else."""
        return (await keys.create(self.store, await users.add(self.store, email, role=role)))[1]

    async def sign_in(self, password: str = "correct horse") -> str:
        """Set the user's password; a token got with it."""
        await users.set_password(self.store, self.user.email, password)
        status, body, _ = await self.call(
            "POST", "/api/v1/auths/signin", key=None, json={"email": self.user.email, "password": password}
        )
        assert status == 200, body
        return str(body["token"])

    # -- requests -----------------------------------------------------------------------------------------------------
    async def call(
        self, method: str, path: str, *, key: str | None = "", headers: Mapping[str, str] | None = None, **options: Any
    ) -> tuple[int, Any, Any]:
        """Status, decoded body and headers of one request; `key=None` sends no credentials."""
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key or self.key}")
        async with self.session.request(method, self.url + path, headers=sent, **options) as response:
            body = None if method == "HEAD" else await response.json()
            return response.status, body, response.headers

    async def submit(
        self, content: bytes = TEXT, filename: str = "note.txt", *, key: str = "", **fields: Any
    ) -> tuple[int, Any]:
        """Send a document; a field that is None is left out."""
        form = aiohttp.FormData()
        for name, value in {"prompt": PROMPT, **fields}.items():
            if value is not None:
                form.add_field(name, str(value))
        form.add_field("file", io.BytesIO(content), filename=filename)
        status, body, _ = await self.call("POST", "/api/v2/process", data=form, key=key)
        return status, body

    async def accepted(self, **options: Any) -> str:
        """Send a document; the id of its task."""
        status, body = await self.submit(**options)
        assert status == 200, body
        return str(body["task_id"])

    async def status(self, task_id: str, **query: Any) -> Any:
        """What the status route says of a task."""
        return await self.get(f"/api/v2/status/{task_id}", **query)

    async def get(self, path: str, **query: Any) -> Any:
        """The body of an answer that is no error."""
        status, body, _ = await self.call("GET", path, params=query)
        assert status == 200, body
        return body

    # -- a connection of its own, where a library would tidy the request ----------------------------------------------
    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def head(self, content_type: str = "multipart/form-data; boundary=b", **headers: str) -> bytes:
        """The head of a `process` request, as far as the body."""
        lines = ["POST /api/v2/process HTTP/1.1", "Host: docv2", f"Authorization: Bearer {self.key}"]
        lines += [f"Content-Type: {content_type}"] if content_type else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    # -- what the pool would do ---------------------------------------------------------------------------------------
    async def claim(self) -> Claim:
        """Start the next task."""
        task = await self.store.claim("pool")
        assert task is not None
        self.services.changes.announce(task.task_id)
        return task.claim

    async def report(self, claim: Claim, stage: Stage, progress: float) -> None:
        """Say how far it is."""
        await self.store.report(claim, stage=stage, progress=progress)
        self.services.changes.announce(claim.task_id)

    async def read_pages(self, claim: Claim, numbers: range, *, total: int, progress: float) -> None:
        """Keep pages as read."""
        pages = [Page(number, PageSource.TEXT, "has text", chars=10) for number in numbers]
        await self.store.save_pages(claim, pages, progress=progress, pages_total=total)
        self.services.changes.announce(claim.task_id)

    async def complete(self, claim: Claim, **changes: Any) -> None:
        """End it with an answer."""
        values: dict[str, Any] = {"content": "Forty-two.", "model_used": "sees", "finish_reason": "stop"}
        await self.store.complete(claim, Result(**{**values, **changes}))
        self.services.changes.announce(claim.task_id)

    # -- what there is ------------------------------------------------------------------------------------------------
    async def task(self, task_id: str) -> Task:
        """The row."""
        task = await self.store.get(task_id)
        assert task is not None
        return task

    def stored(self) -> list[Path]:
        """Every file of the storage."""
        return sorted(path for path in self.files.rglob("*") if path.is_file())

    def document(self, task_id: str) -> Path:
        """Where a task's document lies."""
        return self.files / "documents" / task_id


@asynccontextmanager
async def open_site(data_dir: Path, store: SQLiteStore, **more: Any) -> AsyncIterator[Site]:
    """Two slots, one endpoint that listed a model which sees and one which does not, one user; and `more` settings."""
    settings = Settings(
        data_dir=data_dir,
        openai_base_urls=(ENDPOINT,),
        openai_keys=(SecretStr("sk-upstream"),),
        max_concurrent=2,
        **more,
    )
    config = RuntimeConfig(from_settings(settings, total_memory=100 * GIB), store)
    changes, meter = Changes(), MemoryMeter()
    stopped: list[str] = []
    storage = LocalStorage(data_dir / "files")
    gate = Gate(warning=85, hold=90, critical=95, read=meter)
    listed = [Told("sees", "It Sees", vision=True), Told("reads", "It Reads", vision=False)]
    await store.save_note("catalog", ENDPOINT, {"models": [asdict(one) for one in listed]})
    learned = Learned(store)
    catalog = Catalog(
        [Endpoint(ENDPOINT, learned=learned)],
        store,
        learned,
        preferred=lambda: config.current.admin_model,
        said=lambda: config.current.model_configs,
    )
    health = EndpointHealth(catalog)
    await catalog.load()

    async def never(task: Task) -> None:
        raise AssertionError("nobody runs the pool here")

    sandbox = Sandbox()
    pool = Pool(
        owner="pool",
        store=store,
        config=config,
        gate=gate,
        health=health,
        sandbox=sandbox,
        changes=changes,
        work=never,
    )
    pool.cancel = stopped.append  # type: ignore[method-assign, assignment]
    estimate = Estimator(store, slots=pool.slots, running=pool.running)
    page_cache = PageCache(data_dir / "cache", config)
    await page_cache.open()
    services = Services(
        settings=settings,
        config=config,
        store=store,
        storage=storage,
        catalog=catalog,
        health=health,
        gate=gate,
        pool=pool,
        changes=changes,
        estimate=estimate,
        intake=Intake(
            store=store,
            storage=storage,
            config=config,
            catalog=catalog,
            health=health,
            gate=gate,
            pool=pool,
            changes=changes,
            estimate=estimate,
            forms=FormCheck(sandbox),
            quotes=Quotes(
                sandbox=sandbox, folders=WorkFolders(data_dir / "work"), catalog=catalog, gate=gate, estimate=estimate
            ),
        ),
        removal=Removal(
            store=store,
            storage=storage,
            folders=WorkFolders(data_dir / "work"),
            page_cache=page_cache,
            stop=pool.stop,
        ),
        sessions=Sessions(store, SECRET),
        embedded=False,
    )
    user = await users.add(store, "ada@example.org")
    _, key = await keys.create(store, user)
    async with (
        listening(services, "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as session,
        AsyncExitStack() as stack,
    ):
        stack.push_async_callback(sandbox.close)
        yield Site(url, services, store, data_dir / "files", session, user, key, meter, stopped)
