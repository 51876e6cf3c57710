"""The people who may call docv2."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from docv2.accounts import keys, passwords
from docv2.accounts.private import write_private
from docv2.errors import Conflict, InvalidValue, NotFound
from docv2.store.base import Store, User

log = logging.getLogger(__name__)

USER = "user"
ADMIN = "admin"
ROLES = (USER, ADMIN)

MAX_EMAIL = 254
"""Characters of an address that mail can carry (RFC 5321, 4.5.3.1.3)."""
EMAIL = r"^[^\x00-\x20\x7f@]+@[^\x00-\x20\x7f@]+$"
"""Enough to tell an address from what belongs into another field; whether mail arrives there is not our business."""
MAX_NAME = 200

FIRST_ADMINISTRATOR = "admin@localhost"
FIRST_KEY_FILE = "first-administrator.key"
"""In the data folder; holds the key where no terminal was there to show it."""


async def add(store: Store, email: str, *, role: str = USER, name: str = "") -> User:
    """Add a user; InvalidValue for an address that is none, Conflict for one that is taken."""
    email, name = email.strip(), name.strip()
    if not re.fullmatch(EMAIL, email) or len(email) > MAX_EMAIL or not email.isprintable():
        raise InvalidValue("The e-mail address must look like name@host")
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidValue(f"The name must be at most {MAX_NAME} printable characters")
    if role not in ROLES:
        raise InvalidValue(f"The role must be one of: {', '.join(ROLES)}")
    user = User(str(uuid.uuid4()), email, name or email.partition("@")[0], role, active=True, created_at=time.time())
    await store.add_user(user)
    return user


async def by_email(store: Store, email: str) -> User:
    """The user with this address; NotFound where there is none."""
    user = await store.user_by_email(email.strip())
    if user is None:
        raise NotFound(f"There is no user {email}")
    return user


async def by_id(store: Store, user_id: str) -> User:
    """The user of this id; NotFound where there is none."""
    user = await store.user(user_id)
    if user is None:
        raise NotFound("There is no such user")
    return user


async def set_active(store: Store, user_id: str, *, active: bool) -> User:
    """Shut a user out, or let one in again; NotFound where there is none, Conflict for the last administrator."""
    user = await by_id(store, user_id)
    if not await store.set_active(user_id, active=active):
        raise Conflict("This is the last administrator who can get in")
    return replace(user, active=active)


async def set_password(store: Store, email: str, password: str) -> None:
    """Let the user with this address sign in with a password; sessions that are open end."""
    user = await by_email(store, email)
    await store.set_password(user.user_id, await passwords.hashed(password))


async def first_administrator(store: Store, data_dir: Path, *, terminal: TextIO | None = None) -> None:
    """Where nobody has an account yet, make an administrator with a key, so that a fresh server can be used.

    The key is shown on `terminal` if that is one. Else it goes into a file that only the owner can read, since what
    a service prints ends in logs; the log names the file. Written before the account is, so that a crash between the
    two leaves no account without its key.
    """
    if await store.users():
        return
    key = keys.generate()
    shown = terminal is not None and terminal.isatty()
    path = data_dir / FIRST_KEY_FILE
    if not shown:
        await asyncio.to_thread(write_private, path, key + "\n")
    user = await add(store, FIRST_ADMINISTRATOR, role=ADMIN, name="Administrator")
    await keys.add(store, user, key, name="first start")
    if shown:
        print(f"Administrator {user.email} made. The key, shown only now: {key}", file=terminal, flush=True)
    else:
        log.warning("administrator %s made; the key is in %s", user.email, path)
