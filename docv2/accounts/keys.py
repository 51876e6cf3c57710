"""API keys: made once, shown once, kept as a digest."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from dataclasses import dataclass

from docv2.errors import DocV2Error, InvalidValue, Unauthenticated
from docv2.store.base import ApiKey, Store, User

log = logging.getLogger(__name__)

PREFIX = "sk-"
RANDOM_BYTES = 32
SHOWN = len(PREFIX) + 6
"""Characters of a key that are kept to tell keys apart; 220 unknown bits remain."""

MAX_NAME = 200
USED_SECONDS = 60.0
"""The last use of a key is written at most this often."""

KEPT_SECONDS = 0.5
"""A key that another process revokes is good for so long yet."""
MOST_KEPT = 10_000


def generate() -> str:
    """A new key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest(key: str) -> str:
    """What is kept of a key. A plain SHA-256 will do: nobody guesses 256 random bits, however fast the hash."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


async def create(store: Store, user: User, *, name: str = "") -> tuple[ApiKey, str]:
    """Make a key for a user; the text of the key is to be had only here."""
    key = generate()
    return await add(store, user, key, name=name), key


async def add(store: Store, user: User, key: str, *, name: str = "") -> ApiKey:
    """Give a user a key that was generated before."""
    made = _listed(user, key, name.strip())
    await store.add_key(made, digest(key))
    return made


async def replace_own(store: Store, user: User) -> tuple[ApiKey, str]:
    """Make the key that a user looks after without help; the one before it is revoked. Keys made by others stay."""
    key = generate()
    made = _listed(user, key, "own key")
    await store.replace_own_key(made, digest(key))
    return made, key


async def rotate(store: Store, user: User, before: ApiKey) -> tuple[ApiKey, str]:
    """Make a key in place of another, which is revoked in the same moment; Conflict where it was revoked already."""
    key = generate()
    made = _listed(user, key, before.name)
    await store.rotate_key(before.key_id, made, digest(key))
    return made, key


def _listed(user: User, key: str, name: str) -> ApiKey:
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidValue(f"The name must be at most {MAX_NAME} printable characters")
    return ApiKey(
        key_id=f"key_{secrets.token_hex(6)}",
        user_id=user.user_id,
        name=name,
        prefix=key[:SHOWN],
        created_at=time.time(),
        last_used_at=None,
        revoked_at=None,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """Whose a key is."""

    user: User
    key: ApiKey
    good_until: float
    """By the monotonic clock."""


class KeyCheck:
    """Tells whose a key is.

    What was found is kept for a moment, since whoever polls many tasks sends one key each time. What this process
    revokes is forgotten at once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, _Found] = {}
        self._revocations = store.revocations
        self._noted: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def user(self, key: str) -> User:
        """The active user of a key that is not revoked; Unauthenticated for any other key."""
        sought, now = digest(key), time.monotonic()
        if self._revocations != self._store.revocations or len(self._kept) > MOST_KEPT:
            self._kept.clear()
            self._revocations = self._store.revocations
        found = self._kept.get(sought)
        if found is None or now >= found.good_until:
            row = await self._store.user_by_key(sought)
            if row is None or not hmac.compare_digest(row[2], sought):
                self._kept.pop(sought, None)
                raise Unauthenticated("The API key is not valid")
            found = self._kept[sought] = _Found(row[0], row[1], now + KEPT_SECONDS)
        self._note_use(found.key)
        return found.user

    def _note_use(self, key: ApiKey) -> None:
        """Write down the use, beside the request: it must neither wait for the disk nor fail with it."""
        now = time.time()
        if now - max(key.last_used_at or 0.0, self._noted.get(key.key_id, 0.0)) < USED_SECONDS:
            return
        self._noted[key.key_id] = now
        task = asyncio.create_task(self._write_use(key.key_id, now))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_use(self, key_id: str, when: float) -> None:
        try:
            await self._store.key_used(key_id, when)
        except DocV2Error as error:
            log.warning("cannot note the use of key %s: %s", key_id, error)

    async def close(self) -> None:
        """Wait until every use is written; the store may be closed then."""
        if self._writing:
            await asyncio.wait(self._writing)
