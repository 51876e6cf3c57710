"""This system's nginx and Apache in front of docv2, with the shipped files; only ports and paths are the test's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp
from aiohttp import web

from tests.e2e.server import DEADLINE, Server, free_port
from tests.endpoint import ScriptedEndpoint
from tests.programs import require

ROOT = Path(__file__).parents[2]

Kind = Literal["nginx", "apache"]
KINDS: tuple[Kind, ...] = ("nginx", "apache")

MEBIBYTE = 1024**2

HOST = "docv2.example.org"
"""The host name in the shipped sites."""

APACHE_MODULES = "mpm_event authn_core authz_core authz_host alias env setenvif mime reqtimeout socache_shmcb"
"""Debian enables these by itself, the last with ssl; what the sites need besides stands in apache/docv2/host.conf."""

NGINX_MAIN = """\
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    include mime.types;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/answers;
    include conf.d/*.conf;
    include sites-available/{site};
}}
"""

APACHE_MAIN = """\
ServerRoot {folder}/etc
ServerName localhost
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Mutex default:{folder}
ErrorLog {folder}/error.log
LogLevel warn
TypesConfig /etc/mime.types
User www-data
Group www-data
Define APACHE_LOG_DIR {folder}
Timeout 300
{modules}
Include sites-available/{site}
"""


@dataclass
class Proxy:
    """A configured proxy."""

    kind: Kind
    folder: Path
    port: int
    command: list[str]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "docv2.log"

    def check(self) -> str:
        """What the program's own test says of the files."""
        done = subprocess.run([*self.command, "-t"], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stderr

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        quiet = asyncio.subprocess.DEVNULL
        foreground = [] if self.kind == "nginx" else ["-DFOREGROUND"]
        process = await asyncio.create_subprocess_exec(*self.command, *foreground, stdout=quiet, stderr=quiet)
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    assert process.returncode is None, (self.folder / "error.log").read_text()
                    with suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                        writer.close()
                        break
                    await asyncio.sleep(0.02)
            yield
        finally:
            await end(process)

    def open_files(self) -> list[str]:
        """What its processes have open that is a file and not one of the logs."""
        first = int((self.folder / "pid").read_text())
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        found = []
        for pid in (first, *children):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    target = str(descriptor.readlink())
                    if target.startswith("/") and not target.startswith("/dev/") and not target.endswith(".log"):
                        found.append(target)
        return found


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(DEADLINE):
            await process.wait()
    except TimeoutError:  # a signal that comes while it still starts may be lost on it
        process.kill()
        await process.wait()


@asynccontextmanager
async def beside(application: web.Application) -> AsyncIterator[dict[str, str]]:
    """What shares the host with docv2, and the change to the shipped files by which the proxy finds it."""
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield {"127.0.0.1:8080": f"127.0.0.1:{runner.addresses[0][1]}"}
    finally:
        await runner.cleanup()


def certificate(folder: Path) -> Path:
    """A folder with a certificate for the host and loopback, and its key."""
    folder.mkdir(exist_ok=True)
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={HOST}"
    extensions = ("-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")
    files = ("-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem")
    subprocess.run([require("openssl"), *command.split()[1:], *extensions, *files], check=True, capture_output=True)
    return folder


def configured(
    kind: Kind, folder: Path, upstream: int, *, site: str = "docv2.conf", changes: Mapping[str, str] | None = None
) -> Proxy:
    """The shipped files in a folder of the test's, for an upstream port. Each of `changes` must be found in them."""
    program = require({"nginx": "nginx", "apache": "apache2"}[kind])
    folder.mkdir()
    etc, port = folder / "etc", free_port()
    shutil.copytree(ROOT / kind, etc)
    certificates = certificate(folder / "certificates")
    substituted = {
        f"/etc/letsencrypt/live/{HOST}": str(certificates),
        "127.0.0.1:3000": f"127.0.0.1:{upstream}",
        **(changes or {}),
    }
    if kind == "nginx":
        substituted |= {
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "listen [::]:443 ssl http2;": "",
            "listen [::]:80;": "",
            "/var/log/nginx/": f"{folder}/",
        }
        shutil.copy("/etc/nginx/mime.types", etc)
        user = "user root;" if os.geteuid() == 0 else ""
        main = NGINX_MAIN.format(folder=folder, site=site, user=user)
        command = [program, "-c", str(etc / "main.conf")]
    else:
        http = free_port()
        substituted |= {"*:443": f"127.0.0.1:{port}", "*:80": f"127.0.0.1:{http}"}
        named = (etc / "docv2/host.conf").read_text().split("a2enmod ")[1].splitlines()[0].split()
        modules = [
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
            for name in [*APACHE_MODULES.split(), *named]
        ]
        listen = [f"Listen 127.0.0.1:{port}", f"Listen 127.0.0.1:{http}"]
        main = APACHE_MAIN.format(folder=folder, site=site, modules="\n".join(modules + listen))
        command = [program, "-f", str(etc / "main.conf")]
    found = set()
    for path in etc.rglob("*.conf"):
        text = path.read_text()
        for shipped, ours in substituted.items():
            if shipped in text:
                found.add(shipped)
                text = text.replace(shipped, ours)
        path.write_text(text)
    assert found == set(substituted), "the shipped files do not say what the test wants to change"
    (etc / "main.conf").write_text(main)
    return Proxy(kind, folder, port, command)


class Behind(Server):
    """docv2 with a proxy in front; requests go through the proxy."""

    proxy: Proxy

    def place(self, kind: Kind, folder: Path, **options: object) -> Proxy:
        """Put a proxy in front."""
        self.proxy = configured(kind, folder, self.port, **options)  # type: ignore[arg-type]
        return self.proxy

    @property
    def url(self) -> str:
        return self.proxy.url

    async def start(self) -> None:
        await super().start()
        if self._session is None:
            self._session = self.session()

    def session(self, client: str = "127.0.0.1") -> aiohttp.ClientSession:
        """A client at one of loopback's addresses."""
        tls = ssl.create_default_context(cafile=self.proxy.folder / "certificates/fullchain.pem")
        connector = aiohttp.TCPConnector(ssl=tls, local_addr=(client, 0), limit=0)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=4 * DEADLINE))


@asynccontextmanager
async def behind(
    kind: Kind,
    folder: Path,
    endpoint: ScriptedEndpoint,
    *,
    site: str = "docv2.conf",
    changes: dict[str, str] | None = None,
) -> AsyncIterator[Behind]:
    """docv2 and the proxy in front of it, both running; each of `changes` replaces words of the shipped files."""
    server = Behind(
        folder / "data",
        OPENAI_API_BASE_URLS=endpoint.base_url,
        API_V2_MAX_FILE_SIZE=str(100 * MEBIBYTE),
        DOCV2_TRUSTED_PROXIES="127.0.0.1",
        DOCV2_LOG_FORMAT="json",
        OPEN_WEBUI_LOG_LEVEL="DEBUG",
        DOCV2_DRAIN_SECONDS="0.3",
        API_V2_ADMIN_CONFIG='{"rate_limits": {"per_minute": 100000, "per_hour": 100000, "per_day": 100000}}',
    )
    async with server.place(kind, folder / "proxy", site=site, changes=changes).running():
        try:
            await server.start()
            yield server
        finally:
            await server.close()
