"""Limits, times and paths that stand in several of the shipped files agree with each other and with the settings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from docv2 import settings
from docv2.config import automatic_concurrency, from_settings
from docv2.intake import MAX_WAIT
from docv2.settings import Settings
from docv2.web import server, uploads
from docv2.web.app import CLOSING_SECONDS
from tests.deploy.proxy import ROOT
from tests.programs import require

MEBIBYTE = 1024**2
LARGEST = 100 * MEBIBYTE
"""The largest file that the proxies are made for, as the guide's are."""
DEFAULTS = Settings()


def text(path: str) -> str:
    return (ROOT / path).read_text()


def one(pattern: str, path: str) -> str:
    """What stands in a file, where it stands in it once or always the same."""
    [found] = set(re.findall(pattern, text(path), re.MULTILINE))
    assert isinstance(found, str)
    return found


class Unit:
    """What a unit sets."""

    def __init__(self, name: str) -> None:
        self.lines = [line for line in text(f"systemd/{name}").splitlines() if line and line[0] not in "#["]

    def all(self, name: str) -> list[str]:
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{name}=")]

    def one(self, name: str) -> str:
        [value] = self.all(name)
        return value


SERVICE = Unit("docv2.service")
NGINX = "nginx/snippets/docv2.conf"
NGINX_PROXY = "nginx/snippets/docv2-proxy.conf"
NGINX_HTTP = "nginx/conf.d/docv2.conf"
APACHE_HOST = "apache/docv2/host.conf"
APACHE_SITES = ("apache/sites-available/docv2.conf", "apache/sites-available/docv2-beside-open-webui.conf")
NGINX_SITES = tuple(path.replace("apache", "nginx") for path in APACHE_SITES)
COMPOSE = yaml.safe_load(text("compose.yaml"))


# -- sizes ------------------------------------------------------------------------------------------------------------
def test_whatever_docv2_takes_nginx_lets_through() -> None:
    limit = int(one(r"client_max_body_size (\d+)m;", NGINX)) * MEBIBYTE
    assert limit >= LARGEST + uploads.OVERHEAD
    assert limit >= DEFAULTS.max_file_size + uploads.OVERHEAD
    assert f"Maximum size: {LARGEST / MEBIBYTE:.1f}MB" in text(NGINX_HTTP)


def test_the_service_may_open_what_its_connections_and_files_need() -> None:
    assert int(SERVICE.one("LimitNOFILE")) == 65536, "the guide's figure"
    assert COMPOSE["services"]["docv2"]["ulimits"]["nofile"] == 65536
    assert int(SERVICE.one("TasksMax")) == COMPOSE["services"]["docv2"]["pids_limit"] > 2 * 30, "two each of 30 tasks"


def test_the_kernel_holds_memory_back_no_sooner_than_the_gate() -> None:
    assert int(SERVICE.one("MemoryHigh").rstrip("%")) >= DEFAULTS.memory_critical
    assert not SERVICE.all("MemoryMax"), "the size of the pool would follow it, against the table in the documents"


def test_the_sizing_table_is_what_the_pool_is_sized_by() -> None:
    rows = re.findall(r"^\| (\d+) GB \| (\d+) \|", text("docs/deployment.md"), re.MULTILINE)
    assert len(rows) == 6
    assert [(ram, str(automatic_concurrency(int(ram) * 1024**3))) for ram, _ in rows] == rows


# -- times ------------------------------------------------------------------------------------------------------------
def test_proxies_wait_longer_than_a_long_poll() -> None:
    assert int(one(r"proxy_read_timeout (\d+)s;", NGINX_PROXY)) > MAX_WAIT + 10
    for site in APACHE_SITES:
        assert int(one(r"127\.0\.0\.1:3000/\S* timeout=(\d+)", site)) > MAX_WAIT + 10


def test_an_upload_that_stalls_is_docv2s_to_end() -> None:
    assert int(one(r"client_body_timeout (\d+)s;", NGINX)) > uploads.STALL_SECONDS
    assert int(one(r"proxy_send_timeout (\d+)s;", NGINX_PROXY)) > uploads.STALL_SECONDS
    assert int(one(r"body=(\d+)-", APACHE_HOST)) > uploads.STALL_SECONDS
    assert int(one(r"body=\S+,minrate=(\d+)", APACHE_HOST)) <= uploads.LEAST_RATE
    assert int(one(r"^Timeout (\d+)", APACHE_HOST)) > uploads.STALL_SECONDS


def test_proxies_let_go_of_idle_connections_before_docv2_does() -> None:
    kept = server.LIMITS["keepalive_timeout"]
    assert int(one(r"keepalive_timeout (\d+)s;", NGINX_HTTP)) < kept
    for site in APACHE_SITES:
        assert int(one(r"127\.0\.0\.1:3000/\S* .*ttl=(\d+)", site)) < kept


def test_a_stop_has_the_time_of_the_drain() -> None:
    needed = DEFAULTS.drain_seconds + CLOSING_SECONDS
    assert int(SERVICE.one("TimeoutStopSec")) >= needed
    assert int(COMPOSE["services"]["docv2"]["stop_grace_period"].rstrip("s")) >= needed


# -- the table in the documents ---------------------------------------------------------------------------------------
def test_the_table_of_limits_says_what_the_files_and_the_settings_say() -> None:
    def nginx(pattern: str, path: str = NGINX) -> str:
        return one(rf"{pattern}([1-9]\d*)", path)

    def apache(name: str) -> str:
        [found] = {one(rf"127\.0\.0\.1:3000/\S* .*\b{name}=(\d+)", site) for site in APACHE_SITES}
        return found

    [(stall, whole, slowest)] = re.findall(r" body=(\d+)-(\d+),minrate=(\d+)", text(APACHE_HOST))
    users = from_settings(DEFAULTS, total_memory=2**30).rate_limits
    values = {
        "size of an upload": (nginx("client_max_body_size "), LARGEST // MEBIBYTE, DEFAULTS.max_file_size // MEBIBYTE),
        "an upload that stalls": (
            *(nginx("client_body_timeout "), stall, int(slowest) // 1024),
            *(round(uploads.STALL_SECONDS), uploads.LEAST_RATE // 1024),
        ),
        "an upload as a whole": (int(whole) // 3600, LARGEST // MEBIBYTE, round(LARGEST / int(whole) / 1000)),
        "submissions": (
            *(nginx("zone=docv2_submissions:10m rate=", NGINX_HTTP), nginx("zone=docv2_submissions burst=")),
            *(users.per_minute, users.per_hour, users.per_day),
        ),
        "everything else": (
            nginx("zone=docv2_requests:10m rate=", NGINX_HTTP),
            nginx("zone=docv2_requests burst=", NGINX_PROXY),
        ),
        "waiting for an answer": (
            *(nginx("proxy_read_timeout ", NGINX_PROXY), apache("timeout")),
            *(round(MAX_WAIT), round(MAX_WAIT)),
        ),
        "idle connections to docv2": (
            *(nginx("keepalive_timeout ", NGINX_HTTP), apache("ttl")),
            round(server.LIMITS["keepalive_timeout"]),
        ),
        "stopping": (round(DEFAULTS.drain_seconds),),
    }
    table = text("docs/deployment.md").split("## Who limits what")[1].split("\n\n")[1].splitlines()[2:]
    rows = {line.split(" | ")[0].strip("| "): re.sub(r"`[^`?]+`|docv2", "", line) for line in table}
    said = {name: re.findall(r"\d[\d,]*", row) for name, row in rows.items()}
    assert said == {
        name: [f"{value:,}" if isinstance(value, int) else value for value in row] for name, row in values.items()
    }


# -- addresses and paths ----------------------------------------------------------------------------------------------
def test_proxies_find_docv2_where_it_listens_and_docv2_trusts_them() -> None:
    address = f"{DEFAULTS.host}:{DEFAULTS.port}"
    assert one(r"server (\S+);", NGINX_HTTP) == address
    for site in APACHE_SITES:
        assert address in text(site)
    trusted = settings.load({"DOCV2_TRUSTED_PROXIES": one(r"^DOCV2_TRUSTED_PROXIES=(.*)", "systemd/docv2.env")})
    assert [str(network) for network in trusted.trusted_proxies] == ["127.0.0.1/32", "::1/128"]


@pytest.mark.parametrize("site", [*NGINX_SITES, *APACHE_SITES])
def test_each_site_is_closed_where_it_must_be(site: str) -> None:
    if "beside" in site:
        assert not re.search(r"(location|Location).*(admin|metrics)", text(site)), "those are Open WebUI's there"
    else:
        for path in ("admin", "metrics"):
            assert re.search(rf"location \^~ /{path} |LocationMatch .*\b{path}\b", text(site))


def test_both_sites_of_apache_reach_docv2_alike() -> None:
    assert len({one(r"127\.0\.0\.1:3000/\S* (.*)", site) for site in APACHE_SITES}) == 1


def test_units_and_scripts_speak_of_the_same_paths() -> None:
    backup, deploy = Unit("docv2-backup.service"), text("deploy/docv2-deploy")
    for unit in (SERVICE, backup):
        assert "DOCV2_DATA_DIR=%S/docv2" in unit.all("Environment")
        assert unit.one("StateDirectory") == "docv2"
        assert unit.one("User") == "docv2"
        assert "/opt/docv2/current/bin/docv2 " in unit.one("ExecStart")
    assert backup.one("ReadWritePaths") in backup.one("ExecStart")
    for path in ("/var/lib/docv2", backup.one("ReadWritePaths"), "opt=/opt/docv2", "settings=/etc/docv2"):
        assert path in deploy
    assert SERVICE.one("EnvironmentFile") == "/etc/docv2/docv2.env"
    log = one(r"^DOCV2_LOG_FILE=(.*)", "systemd/docv2.env")
    assert str(Path(log).parent) == f"/var/log/{SERVICE.one('LogsDirectory')}"
    assert log in text("deploy/logrotate.conf")


def test_every_secret_is_a_credential_and_nothing_else_is() -> None:
    secret = {
        settings.env_names(field)[0]
        for field, info in Settings.model_fields.items()
        if "Secret" in str(info.annotation)
    }
    named = dict(value.split(":", 1) for value in SERVICE.all("LoadCredential"))
    assert set(named) == secret
    assert all(path == f"/etc/docv2/credentials/{name}" for name, path in named.items())


@pytest.mark.parametrize("commented", ["as they are", "with every line in force"])
def test_the_shipped_settings_are_taken(tmp_path: Path, commented: str) -> None:
    shipped = text("systemd/docv2.env")
    if commented != "as they are":
        shipped = re.sub(r"^#(?=[A-Z0-9_]+=)", "", shipped, flags=re.MULTILINE)
        assert shipped != text("systemd/docv2.env")
    path = tmp_path / "docv2.env"
    path.write_text(shipped)
    settings.load({"DOCV2_ENV_FILE": str(path)})


def test_the_installation_brings_the_programs_that_the_pages_use() -> None:
    """Of those that no Debian has by itself."""
    packages = {"fuser": "psmisc", "certbot": "certbot", "sqlite3": "sqlite3", "curl": "curl", "jq": "jq", "ufw": "ufw"}
    packages |= {"rsync": "rsync"}
    pages = "".join(text(f"docs/{page}.md") for page in ("deployment", "operations", "administration"))
    code = "\n".join("".join(found) for found in re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", pages, re.DOTALL))
    used = {package for program, package in packages.items() if re.search(rf"(?m)(^|[|;(]) *{program} ", code)}
    assert used == {*one(r"apt-get install (python3-venv .*)", "docs/deployment.md").split()} - {
        "python3-venv",
        "nginx",
    }


# -- units ------------------------------------------------------------------------------------------------------------
UNITS = ("docv2.service", "docv2-backup.service")


@pytest.fixture
def runnable(tmp_path: Path) -> Path:
    """The units with commands that exist here."""
    for path in (ROOT / "systemd").glob("docv2*.*"):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/docv2/current/bin/docv2 serve", "/bin/true"))
    return tmp_path


def test_systemd_takes_the_units_without_a_word(runnable: Path) -> None:
    files = [runnable / name for name in (*UNITS, "docv2-backup.timer")]
    done = subprocess.run([require("systemd-analyze"), "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_open_only_where_it_says_why(runnable: Path, name: str) -> None:
    command = [require("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--json=short"]
    done = subprocess.run([*command, str(runnable / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"worse than 2.0\n{done.stdout}{done.stderr}"
    table = {row["name"]: row["set"] for row in json.loads(done.stdout)}
    comments = [line[2:].split(": ")[0] for line in text(f"systemd/{name}").splitlines() if line.startswith("# ")]
    explained = {setting for comment in comments for setting in re.split(r", (?=\w+=)", comment)} & set(table)
    assert explained == {setting for setting, good in table.items() if good is False}


# -- scripts and containers -------------------------------------------------------------------------------------------
def test_the_scripts_are_clean() -> None:
    scripts: list[Path] = [*(ROOT / "deploy").glob("docv2*"), ROOT / "tests/deploy/boot.sh"]
    done = subprocess.run([require("shellcheck"), *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_linted() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_composition_is_what_the_specification_of_compose_allows() -> None:
    filled_in = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text("compose.yaml"))
    PyCompose.from_yaml(filled_in).validate()
    with pytest.raises(ValueError, match="pid_limit"):
        PyCompose.from_yaml(filled_in.replace("pids_limit", "pid_limit"))


def instructions() -> Iterator[tuple[str, str]]:
    """Those of the Dockerfile: name and what follows."""
    for line in re.sub(r"\\\n", " ", text("Dockerfile")).splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.strip().partition(" ")
            yield name, rest


def test_the_image_is_small_whole_and_runs_as_nobody_special() -> None:
    found = list(instructions())
    stages = [rest for name, rest in found if name == "FROM"]
    assert len(stages) == 2
    assert all(re.match(r"python:3\.1\d-slim-\w+", stage) for stage in stages), (
        "a named release, and not what is latest"
    )
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    assert dict(last)["USER"] == "10001:10001"
    assert dict(last)["ENTRYPOINT"] == '["docv2"]'
    assert "api/v2/health" in dict(last)["HEALTHCHECK"]
    assert "--require-hashes" in " ".join(rest for name, rest in found if name == "RUN")
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = {part for name, rest in found if name == "COPY" and "--from" not in rest for part in rest.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / part).exists() for part in copied)


def test_the_composition_confines_what_it_starts() -> None:
    services: dict[str, Any] = COMPOSE["services"]
    for name in ("network", "docv2", "nginx"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    assert services["docv2"]["user"] == dict(instructions())["USER"]
    for service in services.values():
        assert service["image"] == "docv2" or re.search(r":[\w.-]*\d", service["image"])
    for name in ("docv2", "nginx"):
        assert services[name]["network_mode"] == "service:network", "whose owner has nothing to crash of"
    assert services["network"]["entrypoint"] == ["sleep", "infinity"]
    environment = {name: value for name, value in services["docv2"]["environment"].items() if "$" not in value}
    settings.load(environment)
    mounted = [mount.split(":")[0] for mount in services["nginx"]["volumes"] if mount.startswith("./")]
    assert all((ROOT / path).exists() for path in mounted)


def test_nginx_in_the_composition_finds_what_its_files_name() -> None:
    nginx = COMPOSE["services"]["nginx"]
    targets = [Path(mount.removesuffix(":ro").rpartition(":")[2]) for mount in nginx["volumes"]]
    site = NGINX_SITES[0]
    certificate = Path(one(r"ssl_certificate (\S+);", site))
    assert certificate.parents[2] in targets, "live/ has links to archive/, so both must be there"
    assert certificate.parent.name == one(r"--cert-name (\S+)", "compose.yaml")
    assert Path(one(r"root (\S+);", site)) in targets
    for log in (one(r"access_log (\S+) ", NGINX), "/var/log/nginx/error.log"):
        assert re.search(rf"ln -sf /dev/std\w+ {log}\b", nginx["command"][-1]), "no file in memory that grows"
    assert all(service["logging"] == {"driver": "local"} for service in COMPOSE["services"].values()), "rotates"
