"""A machine of its own: this system's files and packages, a real systemd as first process, and nothing that lasts.

Everything is in namespaces: processes, network, mounts, names and control groups. Files are those of the system
outside, under a layer in memory that takes every change. So units, sites and scripts run as shipped: with their own
paths, ports, users and sandboxes.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

BOOT = Path(__file__).with_name("boot.sh")

NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")

BOOT_SECONDS = 60.0


class Machine:
    """Boots when the context opens, and is gone with all that it did when it closes."""

    def __init__(self, layer: Path) -> None:
        """`layer`: an empty folder to mount the machine's own files on, in its own namespace."""
        self._layer = layer
        self._console = layer.with_name(f"{layer.name}.console")
        self._group = f"docv2-test-{uuid.uuid4()}"

    def __enter__(self) -> Self:
        self._layer.mkdir()
        with self._console.open("wb") as console:
            self._outer = subprocess.Popen(
                ["unshare", "--mount", BOOT, self._layer, self._group], stdout=console, stderr=console
            )
        try:
            self._await_boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        outside_network: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as root; over the network outside where it must fetch something."""
        namespaces = [name for name in NAMESPACES if not (outside_network and name == "--net")]
        done = subprocess.run(
            ["nsenter", f"--target={self._first}", *namespaces, "--", *command],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"
        return done

    def _await_boot(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while self._outer.poll() is None and time.monotonic() < deadline:
            for first in self._children():
                self._first = first
                if self.run("systemctl", "is-active", "machine.target", check=False).returncode == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(self._console.read_text())

    def _end(self) -> None:
        for pid in self._children():
            os.kill(pid, signal.SIGKILL)  # the first process: the kernel ends all others before its parent hears of it
        self._outer.wait()
        remove = 'mount -t cgroup2 cgroup2 "$1" && cd "$1" && find "$2" -depth -type d -exec rmdir {} +'
        subprocess.run(["unshare", "--mount", "sh", "-c", remove, "sh", self._layer, self._group], check=True)

    def _children(self) -> list[int]:
        """The first process, once there is one."""
        try:
            return [
                int(pid) for pid in Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            ]
        except FileNotFoundError:
            return []
