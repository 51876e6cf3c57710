"""A bound on what is tried again and again, by name."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

NAMES = 10_000
"""Names that are remembered; beyond them the one tried longest ago is forgotten, so that memory stays bounded."""


class Attempts:
    """Counts attempts by name within the last so many seconds."""

    def __init__(self, most: int, window: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._made: dict[str, deque[float]] = {}

    def wait(self, name: str) -> float:
        """Seconds until another attempt is allowed; 0 where it is now."""
        made = self._made.get(name)
        if not made or len(made) < self._most:
            return 0.0
        return max(0.0, made[-self._most] + self._window - self._clock())

    def add(self, name: str) -> None:
        """Count one."""
        made = self._made.pop(name, None) or deque(maxlen=self._most)
        made.append(self._clock())
        self._made[name] = made  # last in order now
        if len(self._made) > NAMES:
            del self._made[next(iter(self._made))]

    def take_back(self, name: str) -> None:
        """Uncount the last one: it succeeded."""
        if made := self._made.get(name):
            made.pop()


def network_of(address: str) -> str:
    """What one sender has: an address, or in IPv6 the 64 bits that a provider gives to each customer."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    return f"{int(parsed) >> 64:x}::/64" if isinstance(parsed, IPv6Address) else address
