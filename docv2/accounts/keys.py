"""API keys: made once, shown once, kept as a digest."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time

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


class KeyCheck:
    """Tells whose a key is. Asks the store every time, so that a revocation is seen at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def user(self, key: str) -> User:
        """The active user of a key that is not revoked; Unauthenticated for any other key."""
        sought = digest(key)
        found = await self._store.user_by_key(sought)
        if found is None or not hmac.compare_digest(found[2], sought):
            raise Unauthenticated("The API key is not valid")
        user, api_key, _ = found
        self._note_use(api_key)
        return user

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
