"""The gate: which memory counts, which level follows, how many tasks may work."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from docv2.config import automatic_concurrency
from docv2.worker.gate import Gate, Level, Memory, read_memory, total_memory

MIB = 1024**2


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def v2_group(folder: Path, *, limit: str, usage: int, inactive: int) -> None:
    write(folder / "memory.max", limit + "\n")
    write(folder / "memory.current", f"{usage}\n")
    write(folder / "memory.stat", f"anon 1\ninactive_file {inactive}\n")


def roots(tmp_path: Path, membership: str) -> dict[str, Path]:
    write(tmp_path / "proc/self/cgroup", membership)
    (tmp_path / "cgroup").mkdir(exist_ok=True)
    return {"proc": tmp_path / "proc", "cgroups": tmp_path / "cgroup"}


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    where = roots(tmp_path, "0::/user.slice\n")
    v2_group(tmp_path / "cgroup/user.slice", limit="max", usage=5, inactive=0)
    assert read_memory(**where).total == psutil.virtual_memory().total
    assert total_memory(**where) == psutil.virtual_memory().total


def test_a_v2_limit_counts_without_the_droppable_cache(tmp_path: Path) -> None:
    where = roots(tmp_path, "0::/docv2.service\n")
    v2_group(tmp_path / "cgroup/docv2.service", limit=str(1000 * MIB), usage=990 * MIB, inactive=40 * MIB)
    assert read_memory(**where) == Memory(950 * MIB, 1000 * MIB)
    assert total_memory(**where) == 1000 * MIB


def test_an_ancestors_limit_counts_too(tmp_path: Path) -> None:
    where = roots(tmp_path, "0::/parent/child\n")
    v2_group(tmp_path / "cgroup/parent", limit=str(500 * MIB), usage=480 * MIB, inactive=0)
    v2_group(tmp_path / "cgroup/parent/child", limit=str(400 * MIB), usage=40 * MIB, inactive=0)
    assert read_memory(**where) == Memory(480 * MIB, 500 * MIB), "the tightest, not the nearest"
    assert total_memory(**where) == 400 * MIB, "the smallest limit sizes the pool"


def test_a_container_that_sees_only_its_own_group(tmp_path: Path) -> None:
    where = roots(tmp_path, "0::/system.slice/docker-abc.scope\n")
    v2_group(tmp_path / "cgroup", limit=str(300 * MIB), usage=285 * MIB, inactive=0)
    assert read_memory(**where).total == 300 * MIB


def test_a_v1_limit(tmp_path: Path) -> None:
    where = roots(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/docv2\n")
    folder = tmp_path / "cgroup/memory/docv2"
    write(folder / "memory.limit_in_bytes", f"{200 * MIB}\n")
    write(folder / "memory.usage_in_bytes", f"{196 * MIB}\n")
    write(folder / "memory.stat", f"cache 9\ntotal_inactive_file {6 * MIB}\n")
    assert read_memory(**where) == Memory(190 * MIB, 200 * MIB)


def test_v1_says_unlimited_with_a_huge_number(tmp_path: Path) -> None:
    where = roots(tmp_path, "4:memory:/\n")
    write(tmp_path / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert read_memory(**where).total == psutil.virtual_memory().total


class Readings:
    """Memory that reads as the test says."""

    def __init__(self, percent: float) -> None:
        self.percent = percent

    def __call__(self) -> Memory:
        return Memory(int(self.percent * 100), 10_000)


def gate(readings: Readings) -> Gate:
    return Gate(warning=85, hold=90, critical=95, read=readings)


@pytest.mark.parametrize(
    ("percent", "level", "allowed"),
    [
        (84.9, Level.NORMAL, 5),
        (85, Level.WARNING, 3),
        (90, Level.HOLD, 0),
        (94.9, Level.HOLD, 0),
        (95, Level.CRITICAL, 0),
    ],
)
def test_each_level_is_entered_at_its_threshold(percent: float, level: Level, allowed: int) -> None:
    at = gate(Readings(percent))
    assert at.level is level
    assert at.allowed(5) == allowed


def test_under_warning_at_least_one_task_works() -> None:
    assert gate(Readings(86)).allowed(1) == 1


async def test_a_level_is_left_five_points_lower_than_entered() -> None:
    readings = Readings(96)
    at = gate(readings)
    path = [(91, Level.CRITICAL), (90, Level.CRITICAL), (89.9, Level.HOLD), (85, Level.HOLD), (84.9, Level.WARNING)]
    for percent, level in [*path, (80, Level.WARNING), (79.9, Level.NORMAL)]:
        readings.percent = percent
        await at.sample()
        assert at.level is level, percent


async def test_a_sudden_fall_leaves_every_level_at_once() -> None:
    readings = Readings(99)
    at = gate(readings)
    readings.percent = 10
    await at.sample()
    assert at.level is Level.NORMAL
    assert at.memory.used_percent == 10


@pytest.mark.parametrize(
    ("gigabytes", "tasks"),
    [(1, 1), (15.5, 3), (15, 1), (16, 3), (24, 4), (32, 6), (64, 12), (128, 24), (256, 30), (1024, 30)],
)
def test_the_pool_is_sized_by_memory(gigabytes: float, tasks: int) -> None:
    """Both tables of the documentation; a machine's memory is a little less than its name, so it is rounded up."""
    assert automatic_concurrency(int(gigabytes * 1024**3)) == tasks


def test_thresholds_change_at_once_and_an_unwatched_memory_holds_nothing_back() -> None:
    gate = Gate(warning=85, hold=90, critical=95, read=lambda: Memory(80 * MIB, 100 * MIB))
    assert gate.level is Level.NORMAL
    gate.set_thresholds(warning=60, hold=70, critical=80)
    assert (gate.level, gate.allowed(4)) == (Level.CRITICAL, 0)
    gate.set_thresholds(warning=60, hold=70, critical=80, watched=False)
    assert (gate.level, gate.allowed(4)) == (Level.NORMAL, 4)
    assert gate.memory.used_percent == 80
