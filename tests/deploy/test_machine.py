"""docv2 on a machine of its own under a real systemd: installed, read with, hung, backed up, upgraded and removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.installed import URL, Installed
from tests.deploy.machine import Machine
from tests.deploy.proxy import HOST, ROOT, certificate
from tests.documents import docx, encoded, page_picture, scanned_pdf, text_pdf
from tests.programs import missing, require

pytestmark = pytest.mark.timeout(300)

ADDRESS = "192.0.2.1"
"""The machine's own on what stands for a network."""
BACKUPS = "/var/backups/docv2"
OUTSIDE = "198.51.100.1"
"""Where clients on that network are."""
SETTINGS = """DOCV2_ALLOW_EMBEDDED_READER=true
API_V2_ADMIN_CONFIG={"rate_limits": {"per_minute": 100000, "per_hour": 100000, "per_day": 100000}}"""
DEPLOY = "/opt/docv2/current/source/deploy/docv2-deploy"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Installed and running, with the embedded reader for a model. Each test leaves it so."""
    for program in ("unshare", "nsenter", "setpriv", "systemctl", "systemd-run", "curl", "useradd"):
        require(program)
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        missing("needs to be root and to have namespaces")
    folder = tmp_path_factory.mktemp("machine")
    with Machine(folder / "layer") as machine:
        for address in (ADDRESS, OUTSIDE):
            machine.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        installed = Installed(machine, folder)
        installed.deploy("install")
        installed.run("sh", "-c", f"echo '{SETTINGS}' >>/etc/docv2/docv2.env")
        installed.systemctl("start", "docv2")
        yield installed


# -- the service ------------------------------------------------------------------------------------------------------
def test_documents_of_every_kind_are_read_within_the_sandbox(server: Installed) -> None:
    said = "The rent is 700 euro a month."
    documents = {
        "text.pdf": text_pdf([said]),
        "scan.pdf": scanned_pdf([page_picture(said)]),
        "letter.docx": docx([said]),
        "photo.png": encoded(page_picture(said)),
        "note.txt": said.encode(),
    }
    tasks = {name: server.submit(name, content) for name, content in documents.items()}
    for name, task_id in tasks.items():
        body = server.finished(task_id)
        assert body["status"] == "completed", (name, body)
        assert "700" in body["result"]["content"], (name, body)


def test_systemd_confines_the_server_and_its_readers(server: Installed) -> None:
    pid = server.shown("MainPID")
    readers = server.run("pgrep", "--parent", pid).stdout.split()
    assert readers, "the fork server runs"
    for process in (pid, *readers):
        status = server.run("cat", f"/proc/{process}/status").stdout
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        assert "NoNewPrivs:\t1\n" in status
        assert "Seccomp:\t2\n" in status
    for path, writable in {"/var/lib/docv2": True, "/tmp": True, "/etc": False, "/opt/docv2": False}.items():
        mounts = server.run("cat", f"/proc/{pid}/mountinfo").stdout.splitlines()
        points = {line.split()[4]: line.split()[5] for line in mounts}
        nearest = max((point for point in points if Path(path).is_relative_to(point)), key=len)
        assert ("rw" in points[nearest].split(",")) is writable, path
    assert server.shown("OOMPolicy") == "continue"


def test_one_that_hangs_is_started_anew_and_goes_on(server: Installed) -> None:
    drop_in = Path("/run/systemd/system/docv2.service.d")
    server.run("sh", "-c", f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=2\\n' >{drop_in}/test.conf")
    server.systemctl("daemon-reload")
    server.systemctl("restart", "docv2")
    try:
        time.sleep(3)  # longer than the watchdog allows: it is fed
        pid = server.shown("MainPID")
        assert server.shown("NRestarts") == "0"
        tasks = [server.submit(f"page{number}.pdf", scanned_pdf([page_picture("700 euro")] * 3)) for number in range(3)]
        server.run("kill", "-STOP", pid)
        server.until(lambda: server.shown("MainPID") not in (pid, "0") and server.shown("SubState") == "running")
        assert server.shown("NRestarts") == "1"
        assert "Fatal Python error: Aborted" in server.journal(), "and where it stood is told"
        assert all(server.finished(task_id)["status"] == "completed" for task_id in tasks)
    finally:
        server.run("rm", "-r", drop_in)
        server.systemctl("daemon-reload")
        server.systemctl("restart", "docv2")


def test_a_restart_is_graceful(server: Installed) -> None:
    tasks = [server.submit(f"scan{number}.pdf", scanned_pdf([page_picture("700 euro")] * 4)) for number in range(3)]
    server.systemctl("restart", "docv2")
    assert server.shown("Result") == "success"
    assert server.shown("StatusText").endswith(URL)
    assert all(server.finished(task_id)["status"] == "completed" for task_id in tasks)
    database = "/var/lib/docv2/docv2.db"
    assert server.run("sqlite3", "-readonly", database, "SELECT sum(crashes) FROM tasks").stdout.strip() == "0"


def test_secrets_come_from_files_that_root_alone_reads(server: Installed) -> None:
    server.run("sh", "-c", "echo hunter2 >/etc/docv2/credentials/DOCV2_METRICS_TOKEN")
    server.systemctl("restart", "docv2")
    assert server.run("stat", "--format=%a %U", "/etc/docv2/credentials").stdout.split() == ["700", "root"]
    from_outside = ("--header", f"X-Forwarded-For: {OUTSIDE}", f"{URL}/metrics")
    assert server.curl(*from_outside)[0] == 401
    assert server.curl("--header", "Authorization: Bearer hunter2", *from_outside)[0] == 200
    assert "hunter2" not in server.run("cat", f"/proc/{server.shown('MainPID')}/environ").stdout


def test_the_log_is_where_the_guide_looks_and_survives_its_rotation(server: Installed) -> None:
    log = Path("/var/log/openwebui/api_v2.log")
    server.finished(server.submit("before.txt", b"before"))
    assert "completed" in server.run("cat", log).stdout
    require("logrotate")
    server.run("logrotate", "--force", "/etc/logrotate.d/docv2")
    server.finished(server.submit("after.txt", b"after"))
    assert "completed" in server.run("cat", log).stdout


# -- what the administrator does --------------------------------------------------------------------------------------
def test_the_command_line_has_the_services_user_settings_and_data(server: Installed) -> None:
    server.run("docv2", "users", "add", "ada@example.org")
    key = server.run("docv2", "keys", "create", "ada@example.org").stdout.strip()
    assert server.curl("--header", f"Authorization: Bearer {key}", f"{URL}/api/v2/config")[0] == 200
    assert server.run("docv2", "users", "add", "ada@example.org", check=False).returncode == 1
    owners = server.run("find", "/var/lib/docv2", "!", "-user", "docv2").stdout
    assert not owners, "nothing of root's lies among the data"
    refused = server.run("docv2", "backup", "/root/backup", check=False)
    assert (refused.returncode, refused.stderr) == (1, "docv2: /root/backup: Permission denied\n")


def test_the_command_line_is_a_client_with_the_callers_files_and_key(server: Installed) -> None:
    server.run("sh", "-c", "echo The rent is 700 euro. >/root/lease.txt")
    ask = "cd /root && DOCV2_API_KEY=$1 docv2 process lease.txt 'How much is the rent?'"
    assert "700" in server.run("sh", "-c", ask, "sh", server.key).stdout


def test_the_units_name_a_page_that_is_there(server: Installed) -> None:
    for unit in ("docv2", "docv2-backup"):
        page = server.shown("Documentation", unit)
        assert server.run("head", "--lines=1", page.removeprefix("file:")).stdout == "# Deployment\n"


def test_the_timers_backup_has_all_that_was_accepted_before_it_while_more_comes(server: Installed) -> None:
    """Under load: three clients upload all the time, and tasks wait and run. Then it is put back."""
    server.systemctl("start", "docv2-backup")
    [*_, old] = server.files(f"{BACKUPS}/*")
    server.run("touch", "--date=20 days ago", old)
    drop_in = "/run/systemd/system/docv2-backup.timer.d"
    soon = "[Timer]\\nOnCalendar=\\nOnActiveSec=1s\\nRandomizedDelaySec=0\\nAccuracySec=10ms\\n"
    server.run("sh", "-c", f"mkdir -p {drop_in} && printf '{soon}' >{drop_in}/test.conf")
    server.systemctl("daemon-reload")
    accepted: list[str] = []
    enough = threading.Event()

    def keep_submitting(client: int) -> None:
        while not enough.is_set():
            accepted.append(server.submit(f"scan{client}.pdf", scanned_pdf([page_picture("700 euro")])))

    with ThreadPoolExecutor(3) as clients:
        submitting = [clients.submit(keep_submitting, client) for client in range(3)]
        try:
            server.until(lambda: len(accepted) >= 6)
            before = list(accepted)
            server.systemctl("restart", "docv2-backup.timer")
            server.until(lambda: {old} != set(server.files(f"{BACKUPS}/2*Z")) and not server.files(old))
            during = len(accepted) - len(before)
        finally:
            enough.set()
        for client in submitting:
            client.result()
    server.run("rm", "-r", drop_in)
    server.systemctl("daemon-reload")
    assert during >= 3, "the server went on accepting"
    assert server.shown("Result", "docv2-backup") == "success"
    assert server.shown("UnitFileState", "docv2-backup.timer") == "enabled"
    [backup] = server.files(f"{BACKUPS}/2*Z")
    server.run(DEPLOY, "restore", backup)
    for task_id in before:
        assert server.finished(task_id)["status"] == "completed"
    assert server.run("docv2", "check", check=False).returncode == 0
    [aside] = server.files("/var/lib/docv2.2*")
    assert server.run("ls", f"{aside}/docv2.db").stdout, "what was there is kept"
    server.run("rm", "-r", aside)


def test_a_backup_that_is_not_good_leaves_the_data_as_it_was(server: Installed) -> None:
    task_id = server.submit("kept.txt", b"The rent is 700 euro.")
    server.finished(task_id)
    server.systemctl("start", "docv2-backup")
    [*_, backup] = server.files(f"{BACKUPS}/2*Z")
    server.run("cp", "-a", backup, "/var/backups/docv2/bad")
    server.run("truncate", "--size=-1", "/var/backups/docv2/bad/docv2.db")
    refused = server.run(DEPLOY, "restore", "/var/backups/docv2/bad", check=False)
    assert refused.returncode == 1
    assert "the data is as it was" in refused.stderr
    server.run("rm", "-r", "/var/backups/docv2/bad")
    assert server.shown("ActiveState") == "active"
    assert server.finished(task_id)["status"] == "completed"
    assert not server.files("/var/lib/docv2.2*")


def test_it_moves_to_another_server(server: Installed) -> None:
    """To this one, after all of docv2 is gone from it, where the user and the group have other numbers."""
    server.run("sh", "-c", "echo hunter3 >/etc/docv2/credentials/DOCV2_METRICS_TOKEN")
    tasks = [server.submit(f"scan{number}.pdf", scanned_pdf([page_picture("700 euro")] * 4)) for number in range(4)]
    server.run(DEPLOY, "pack", "/root/docv2.tar")
    assert server.run("stat", "--format=%a", "/root/docv2.tar").stdout == "600\n"
    assert server.shown("UnitFileState") == "disabled", "the old one does not come back with a reboot"
    server.run(DEPLOY, "remove")
    server.run("userdel", "docv2")
    server.run("rm", "-r", "/etc/docv2", "/var/lib/docv2", "/var/backups/docv2", "/var/log/openwebui")
    server.run("groupadd", "--gid", "4321", "docv2")
    server.run("useradd", "--system", "--uid", "4321", "--gid", "docv2", "docv2")
    server.deploy("install")
    server.run(DEPLOY, "unpack", "/root/docv2.tar")
    assert all(server.finished(task_id)["status"] == "completed" for task_id in tasks)
    assert server.run("cat", "/etc/docv2/credentials/DOCV2_METRICS_TOKEN").stdout == "hunter3\n"
    assert server.run("docv2", "check", check=False).returncode == 0
    server.systemctl("start", "docv2-backup")
    refused = server.run(DEPLOY, "unpack", "/root/docv2.tar", check=False)
    assert "there is data in /var/lib/docv2 already" in refused.stderr
    server.run("rm", "/root/docv2.tar")


@pytest.mark.parametrize("service", ["nginx", "apache2"])
def test_a_site_serves_the_outside_and_keeps_the_inside_from_it(server: Installed, service: str) -> None:
    require(service)
    folder = f"/etc/letsencrypt/live/{HOST}"
    made = certificate(server.folder / "certificates")
    server.run("rm", "-rf", folder)
    site = {"nginx": "nginx/sites-available/docv2.conf", "apache2": "apache/sites-available/docv2.conf"}[service]
    refused = server.deploy("site", site, HOST, check=False)
    assert refused.returncode == 1
    assert f"Is there a certificate for {HOST}?" in refused.stderr
    assert not server.files(f"/etc/{service}/sites-enabled/docv2*")
    server.run("mkdir", "-p", Path(folder).parent)
    server.run("cp", "-r", made, folder)
    server.deploy("site", site, HOST)
    trust = ("--cacert", made / "fullchain.pem", "--resolve", f"{HOST}:443:{ADDRESS}", "--path-as-is")
    outside = (*trust, "--interface", OUTSIDE)
    try:
        assert server.curl(*outside, f"https://{HOST}/api/v2/health")[0] == 200
        for path in (
            *("/metrics", "/metrics?module=api_v2", "/metrics/", "//metrics", "/./metrics", "/x/../metrics"),
            *("/%6detrics", "/api/v2/../../metrics", "/api/v2/..%2f..%2fmetrics", "/admin", "/admin/config", "//admin"),
            *("/%61dmin/config", "/admin%2fconfig", "/ADMIN/config"),
        ):
            status, body = server.curl(
                *outside,
                *("--header", f"Authorization: Bearer {server.key}", "--header", "X-Forwarded-For: 127.0.0.1"),
                f"https://{HOST}{path}",
            )
            assert status in (403, 404), (path, status, body)
            assert "api_v2_queue_length" not in body
        status, body = server.curl(*outside, f"https://{HOST}/metrics")
        assert (status, json.loads(body)["error_type"]) == (403, "auth_error")
        redirected = (
            "--resolve",
            f"{HOST}:80:{ADDRESS}",
            "--write-out",
            "%{redirect_url}",
            f"http://{HOST}/api/v2/health",
        )
        assert server.run("curl", "--silent", *redirected).stdout.endswith(f"https://{HOST}/api/v2/health")
        mistyped = server.deploy("site", f"./{site}", "docv2.exmaple.org", check=False)
        assert mistyped.returncode == 1
        assert "all is as it was" in mistyped.stderr
        server.systemctl("reload", service)
        assert server.curl(*outside, f"https://{HOST}/api/v2/health")[0] == 200, "the site before goes on"
        assert server.files(f"/etc/{service}/sites-enabled/docv2*"), "after a reboot too"
        assert "exmaple" not in server.run("cat", f"/etc/{service}/sites-available/docv2.conf").stdout
        server.deploy("site", f"./{site}", HOST)
        task_id = server.submit("note.txt", b"The rent is 700 euro.")
        bearer = ("--header", f"Authorization: Bearer {server.key}")
        assert server.curl(*outside, *bearer, f"https://{HOST}/api/v2/status/{task_id}")[0] == 200
        assert f"client={OUTSIDE}" in server.journal()
    finally:
        server.systemctl("stop", service)


# -- releases ---------------------------------------------------------------------------------------------------------
def test_without_a_model_endpoint_it_starts_only_if_told_to(server: Installed) -> None:
    server.run("sed", "--in-place=.told", "/EMBEDDED_READER=true$/d", "/etc/docv2/docv2.env")
    server.systemctl("restart", "docv2", check=False)
    assert server.shown("Result") == "exit-code"
    assert server.shown("NRestarts") == "0", "it would be no different the next time"
    assert "no model endpoint is configured" in server.journal()
    server.run("mv", "/etc/docv2/docv2.env.told", "/etc/docv2/docv2.env")
    server.systemctl("start", "docv2")


def test_a_release_that_does_not_start_is_taken_back(server: Installed) -> None:
    before, broken = version(server), "/opt/docv2/releases/broken"
    server.run("sh", "-c", f"mkdir -p {broken}/bin && cp -r /opt/docv2/current/source {broken}/")
    server.run("sh", "-c", f"printf '#!/bin/sh\nexit 1\n' >{broken}/bin/docv2 && chmod +x {broken}/bin/docv2")
    server.run("ln", "-sfn", broken, "/opt/docv2/previous")
    refused = server.run(DEPLOY, "rollback", check=False)
    assert refused.returncode == 1
    assert "is in use again" in refused.stderr
    assert version(server) == before


def test_an_upgrade_that_changed_the_database_is_taken_back_with_the_backup_before_it(
    server: Installed, tmp_path: Path
) -> None:
    before, task_id = version(server), server.submit("kept.txt", b"The rent is 700 euro.")
    server.finished(task_id)
    source = copy_of_source(tmp_path / "source", "99.0")
    last = max(path.name for path in (source / "migrations/sqlite").glob("*.sql"))
    (source / f"migrations/sqlite/{int(last[:4]) + 1:04}_more.sql").write_text(
        "CREATE TABLE more (n INTEGER) STRICT;\n"
    )
    application = source / "docv2/web/app.py"
    good = application.read_text()
    application.write_text(
        f'{good}\n\nasync def serve(*_: object, **__: object) -> None:\n    raise RuntimeError("bad")\n'
    )
    refused = server.deploy("install", source=source, check=False)
    assert refused.returncode == 1
    assert "is in use again" in refused.stderr
    assert version(server) == before, "though the newer one had changed the database"
    assert server.finished(task_id)["status"] == "completed"
    [changed] = server.files("/var/lib/docv2.2*")
    assert changed in refused.stdout, "where the changed database is"
    server.run("rm", "-r", changed)

    application.write_text(good)
    backups = server.files(f"{BACKUPS}/2*Z")
    server.deploy("install", source=source)
    assert version(server) == "99.0"
    [backup] = set(server.files(f"{BACKUPS}/2*Z")) - set(backups)
    assert server.finished(task_id)["status"] == "completed"
    assert len(server.files("/opt/docv2/releases/*")) == 2, "older ones go"
    refused = server.run(DEPLOY, "rollback", check=False)
    assert refused.returncode == 1
    assert "is in use again" in refused.stderr
    assert version(server) == "99.0", "the release before cannot read what this one wrote"
    server.systemctl("stop", "docv2")
    server.run(DEPLOY, "rollback")
    server.run(DEPLOY, "restore", backup)
    assert version(server) == before
    assert server.finished(task_id)["status"] == "completed"
    server.run("sh", "-c", "rm -r /var/lib/docv2.2*")


@pytest.mark.parametrize("state", ["stopped", "crashing"])
def test_the_data_of_a_service_that_does_not_run_is_backed_up_before_the_release_changes(
    server: Installed, state: str
) -> None:
    server.systemctl("stop", "docv2")
    server.run("ln", "-sfn", server.run("readlink", "/opt/docv2/current").stdout.strip(), "/opt/docv2/previous")
    if state == "crashing":
        server.run("mkdir", "-p", "/run/systemd/system/docv2.service.d")
        crash = "[Service]\\nExecStart=\\nExecStart=/bin/false\\n"
        server.run("sh", "-c", f"printf '{crash}' >/run/systemd/system/docv2.service.d/test.conf")
        server.systemctl("daemon-reload")
        server.systemctl("start", "docv2", check=False)
    server.run("sh", "-c", f"rm -r {BACKUPS}/2*Z")
    server.run(DEPLOY, "rollback", check=state == "stopped")
    assert server.files(f"{BACKUPS}/2*Z")
    if state == "crashing":
        server.run("rm", "-r", "/run/systemd/system/docv2.service.d")
        server.systemctl("daemon-reload")
        server.run("sh", "-c", "rm -r /var/lib/docv2.2*")
    else:
        assert server.shown("ActiveState") == "inactive", "it was stopped, and stays so"
    server.systemctl("restart", "docv2")


def test_removed_and_installed_again_it_has_its_data(server: Installed) -> None:
    task_id = server.submit("kept.txt", b"The rent is 700 euro.")
    server.finished(task_id)
    server.run("sh", "-c", f"rm -rf {BACKUPS}/2*Z")
    server.run(DEPLOY, "remove")
    assert server.shown("LoadState") == "not-found"
    assert not server.files("/opt/docv2 /usr/local/bin/docv2 /etc/systemd/system/docv2* /etc/logrotate.d/docv2")
    server.run("chown", "root:12345", "/etc/docv2/docv2.env")
    server.deploy("install")
    assert server.files(f"{BACKUPS}/2*Z"), "before the new release touches the data"
    assert server.run("stat", "--format=%G %a", "/etc/docv2/docv2.env").stdout == "docv2 640\n"
    server.systemctl("start", "docv2")
    assert server.finished(task_id)["status"] == "completed"


def version(server: Installed) -> str:
    return str(server.request("/api/version")["version"])


def copy_of_source(folder: Path, version: str) -> Path:
    kept_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks", "build", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=kept_out)
    (folder / "docv2/__init__.py").write_text(f'"""Another one."""\n\n__version__ = "{version}"\n')
    return folder
