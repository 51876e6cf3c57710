"""What docv2 costs before it does anything: start, idle memory, disk."""

from __future__ import annotations

import re
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import docv2
from benchmarks.processes import memory, serving

SETTLED_SECONDS = 1.0


def measure(_folder: Path, scratch: Path) -> dict[str, float]:
    """From the command to the first answer, and the memory a moment later."""
    with serving(scratch / "data") as server:
        time.sleep(SETTLED_SECONDS)
        return {"start": server.start_seconds, "idle": memory(server.pid), "installed": installed() / 1e6}


def installed() -> int:
    """Bytes of docv2 and of all that it needs, compiled modules included; the interpreter is not counted."""
    own = sum(path.stat().st_size for path in Path(docv2.__file__).parent.rglob("*") if path.is_file())
    return own + sum(map(size, needed("docv2").values()))


def needed(name: str, known: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """The distributions that one needs, directly or not, without extras; those not installed are for other machines."""
    known = {} if known is None else known
    for requirement in distribution(name).requires or ():
        wanted, _, marker = requirement.partition(";")
        found = re.match(r"[\w.-]+", wanted)
        if "extra" in marker or not found or found[0] in known:
            continue
        try:
            known[found[0]] = distribution(found[0])
        except PackageNotFoundError:
            continue
        needed(found[0], known)
    return known


def size(package: Distribution) -> int:
    """Bytes of a package's files, and of what Python compiles of them."""
    total = 0
    for file in package.files or ():
        path = Path(str(file.locate()))
        if path.suffix != ".pyc" and path.is_file():
            total += path.stat().st_size
            compiled = path.parent / "__pycache__"
            total += sum(made.stat().st_size for made in compiled.glob(f"{path.stem}.*.pyc") if path.suffix == ".py")
    return total
