"""Programs of the system that a test needs beside Python."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

REQUIRED = "REQUIRE_PROGRAMS"
"""Set to 1 where a missing program is an error, as in continuous integration."""


def require(program: str) -> str:
    """Where the program is; skips the test in one line where it is not."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        missing(f"needs the program {program}")
    return found


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
