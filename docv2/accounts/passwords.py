"""Passwords: argon2id, made and compared beside the event loop, a few at a time."""

from __future__ import annotations

import asyncio
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from docv2.errors import InvalidValue, Unavailable

LEAST = 8
"""Characters (NIST SP 800-63B, 5.1.1.2)."""
MOST = 1000

AT_ONCE = 2
"""Each takes 19 MiB and a core for some 30 ms; these are left for documents."""
WAITING = 64
"""More that wait for their turn are sent away: the last of so many has waited a second or two."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""OWASP's figures for argon2id."""
_NOBODY = f"$argon2id$v=19$m=19456,t=2,p=1${'A' * 22}${'A' * 43}"
"""Is compared where there is no password, so that the time tells nothing."""


class Passwords:
    """Compares passwords, for everyone on the server."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def match(self, password: str, kept: str | None) -> bool:
        """Whether it is the one whose hash was kept; takes as long where none was. Unavailable where many wait."""
        if self._waiting >= WAITING:
            raise Unavailable("Too many people sign in at this moment", retry_after=2)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(_matches, password, kept or _NOBODY) and kept is not None
        finally:
            self._waiting -= 1


async def hashed(password: str) -> str:
    """What is kept of a new password; InvalidValue for one that is too short or too long."""
    if not LEAST <= len(password) <= MOST:
        raise InvalidValue(f"The password must have {LEAST} to {MOST} characters")
    return await asyncio.to_thread(_HASHER.hash, _normal(password))


def _matches(password: str, kept: str) -> bool:
    try:
        return _HASHER.verify(kept, _normal(password))
    except (VerificationError, InvalidHashError):
        return False


def _normal(password: str) -> str:
    """The same characters are written in several ways by several keyboards."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode()
