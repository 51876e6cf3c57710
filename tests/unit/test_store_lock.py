"""The instance lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docv2.errors import StartError
from docv2.store.lock import instance_lock

HOLD = """
import subprocess, sys
from pathlib import Path
from docv2.store.lock import instance_lock
with instance_lock(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_a_second_server_is_refused_in_one_line(tmp_path: Path) -> None:
    with instance_lock(tmp_path):
        with pytest.raises(StartError) as refusal, instance_lock(tmp_path):
            pass
        assert str(os.getpid()) in refusal.value.message
        assert str(tmp_path) in refusal.value.message
        assert "\n" not in refusal.value.message
    with instance_lock(tmp_path):
        pass


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file"), instance_lock(tmp_path / "missing"):
        pass


def test_it_goes_with_the_process_and_not_with_its_children(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(StartError, match=f"process {holder.pid}"), instance_lock(tmp_path):
            pass
        holder.kill()
        holder.wait(10)
        os.kill(child, 0)  # still alive, and does not hold it
        with instance_lock(tmp_path):
            pass
    finally:
        os.kill(child, 9)
        holder.stdin.close()
        holder.stdout.close()
