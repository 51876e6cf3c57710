"""The memory gate: how full the memory is, and how many tasks may work because of it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 0.5
HYSTERESIS = 5.0
"""Points below its threshold at which a level is left, so that it does not flap."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory that counts for this process, in bytes."""

    used: int
    total: int

    @property
    def used_percent(self) -> float:
        """0 to 100."""
        return round(100 * self.used / self.total, 1)

    @property
    def available_mb(self) -> int:
        """MiB not in use."""
        return (self.total - self.used) // 1024**2

    @property
    def total_mb(self) -> int:
        """MiB in all."""
        return self.total // 1024**2


class Level(IntEnum):
    """How tight memory is, and what follows."""

    NORMAL = 0
    WARNING = 1
    """Half of the pool works; health is degraded."""
    HOLD = 2
    """No task starts."""
    CRITICAL = 3
    """No document is accepted, and running tasks give memory back."""


def read_memory(proc: Path = Path("/proc"), cgroups: Path = _CGROUP_ROOT) -> Memory:
    """The tightest of the machine and every control group (v1 or v2) that limits this process, ancestors included.

    A group's file cache that can be dropped (inactive_file) is not counted as used.
    """
    machine = psutil.virtual_memory()
    readings = [Memory(machine.total - machine.available, machine.total)]
    for group in _memory_groups(proc, cgroups):
        reading = _read_group(group, machine.total)
        if reading:
            readings.append(reading)
    return max(readings, key=lambda reading: reading.used / reading.total)


def total_memory(proc: Path = Path("/proc"), cgroups: Path = _CGROUP_ROOT) -> int:
    """The smallest limit in bytes that applies to this process."""
    machine = psutil.virtual_memory().total
    groups = (_read_group(group, machine) for group in _memory_groups(proc, cgroups))
    return min([machine, *(group.total for group in groups if group)])


def _memory_groups(proc: Path, cgroups: Path) -> list[Path]:
    """Folders of this process's memory control groups, from its own up to the root."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        own = root / path.lstrip("/")
        # Inside a container the path may name the host's view; then the root is the container's own group.
        own = own if own.is_dir() else root
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return folders


def _read_group(folder: Path, machine_total: int) -> Memory | None:
    """The group's usage and limit; None where it sets no limit below the machine's memory."""
    for limit_name, usage_name, inactive_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (folder / limit_name).read_text().strip()
            if not limit.isdigit() or not 0 < int(limit) < machine_total:
                return None
            usage = int((folder / usage_name).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("cannot read the control group's memory: %s", error)
            return None
        return Memory(max(0, usage - int(stat.get(inactive_name, 0))), int(limit))
    return None


class Gate:
    """Samples memory and holds the level that follows from it."""

    def __init__(
        self, *, warning: float, hold: float, critical: float, read: Callable[[], Memory] = read_memory
    ) -> None:
        """Thresholds are percent of memory in use at which a level is entered; left `HYSTERESIS` points lower."""
        self._read = read
        self.memory = read()
        self.level = Level.NORMAL
        self.set_thresholds(warning=warning, hold=hold, critical=critical)

    def set_thresholds(self, *, warning: float, hold: float, critical: float, watched: bool = True) -> None:
        """Percent of memory in use at which each level is entered from now on; unless `watched`, none ever is."""
        self._enter = {Level.WARNING: warning, Level.HOLD: hold, Level.CRITICAL: critical}
        self.watched = watched
        self._settle()

    def allowed(self, slots: int) -> int:
        """How many of the pool's slots may be taken."""
        if self.level >= Level.HOLD:
            return 0
        return -(-slots // 2) if self.level == Level.WARNING else slots

    async def sample(self) -> None:
        """Take one reading, off the loop, and set the level by it."""
        self.memory = await asyncio.to_thread(self._read)
        self._settle()

    def _settle(self) -> None:
        used = self.memory.used_percent if self.watched else -math.inf  # below whatever was entered
        entered = max((level for level, at in self._enter.items() if used >= at), default=Level.NORMAL)
        level = max(self.level, entered)
        while level > entered and used < self._enter[level] - HYSTERESIS:
            level = Level(level - 1)
        if level != self.level:
            severity = logging.WARNING if level > self.level else logging.INFO
            percent = self.memory.used_percent
            log.log(severity, "memory %.1f%% used: gate %s -> %s", percent, self.level.name.lower(), level.name.lower())
            self.level = level
