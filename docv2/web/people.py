"""The administrators' routes about users and their keys."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, StringConstraints

from docv2.accounts import keys, passwords, users
from docv2.errors import Conflict, NotFound
from docv2.store.base import ApiKey, Store, User
from docv2.validation import Input
from docv2.web.answers import answer
from docv2.web.audit import concerns
from docv2.web.inputs import json_of
from docv2.web.state import SERVICES

PASSWORD_BYTES = 12
"""Random bytes of a password that is made here: 16 characters."""

Password = Annotated[str, StringConstraints(strict=True, min_length=passwords.LEAST, max_length=passwords.MOST)]


class NewUser(Input):
    """Somebody who may call docv2 from now on."""

    email: Annotated[str, StringConstraints(strict=True, max_length=users.MAX_EMAIL, pattern=users.EMAIL)] = Field(
        description=f"an e-mail address of at most {users.MAX_EMAIL} characters"
    )
    role: Literal["user", "admin"] = Field("user", description="user or admin")
    name: Annotated[str, StringConstraints(strict=True, max_length=users.MAX_NAME)] = Field(
        "", description=f"text of at most {users.MAX_NAME} characters"
    )
    password: Password | None = Field(
        None, description=f"text of {passwords.LEAST} to {passwords.MOST} characters; without one nobody can sign in"
    )


class NewPassword(Input):
    """A password for somebody."""

    password: Password | None = Field(
        None, description=f"text of {passwords.LEAST} to {passwords.MOST} characters; without one it is made and shown"
    )


class KeyWanted(Input):
    """A key for somebody."""

    name: Annotated[str, StringConstraints(strict=True, max_length=keys.MAX_NAME)] = Field(
        "", description=f"text of at most {keys.MAX_NAME} characters: what the key is for"
    )


@dataclass(frozen=True, slots=True)
class UserBody:
    """Somebody who may call docv2, or might before."""

    id: str
    email: str
    name: str
    role: str
    """`user` or `admin`."""
    active: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class UsersBody:
    """Everyone, in order of creation."""

    users: tuple[UserBody, ...]


@dataclass(frozen=True, slots=True)
class PasswordBody:
    """A new password is in force; every session before it has ended."""

    id: str
    password: str | None = None
    """Only where it was made here, and only this once."""


@dataclass(frozen=True, slots=True)
class KeyBody:
    """A key, but for itself."""

    id: str
    name: str
    prefix: str
    """Its first characters, to tell keys apart."""
    created_at: float
    last_used_at: float | None = None
    """To the minute."""
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class KeysBody:
    """A user's keys, oldest first, revoked ones included."""

    keys: tuple[KeyBody, ...]


@dataclass(frozen=True, slots=True)
class MadeKeyBody:
    """A key, shown only this once."""

    api_key: str
    key: KeyBody


async def list_users(request: web.Request) -> web.Response:
    """Everyone who has an account."""
    return answer(UsersBody(tuple(_user(user) for user in await request.app[SERVICES].store.users())))


async def create_user(request: web.Request) -> web.Response:
    """Make an account."""
    given = await json_of(request, NewUser)
    store = request.app[SERVICES].store
    user = await users.add(store, given.email, role=given.role, name=given.name)
    concerns(request, user_id=user.user_id)
    if given.password is not None:
        await store.set_password(user.user_id, await passwords.hashed(given.password))
    return answer(_user(user))


async def disable_user(request: web.Request) -> web.Response:
    """Shut somebody out: keys and sessions are refused from the next request on. Accepted tasks go on."""
    return answer(_user(await users.set_active(request.app[SERVICES].store, _id(request), active=False)))


async def enable_user(request: web.Request) -> web.Response:
    """Let somebody in again; their keys are good again, sessions from before are not."""
    return answer(_user(await users.set_active(request.app[SERVICES].store, _id(request), active=True)))


async def reset_password(request: web.Request) -> web.Response:
    """Set somebody's password; every session of theirs ends."""
    given = await json_of(request, NewPassword)
    user = await users.by_id(request.app[SERVICES].store, _id(request))
    password = given.password or secrets.token_urlsafe(PASSWORD_BYTES)
    await request.app[SERVICES].store.set_password(user.user_id, await passwords.hashed(password))
    return answer(PasswordBody(user.user_id, None if given.password else password))


async def list_user_keys(request: web.Request) -> web.Response:
    """A user's keys."""
    store = request.app[SERVICES].store
    user = await users.by_id(store, _id(request))
    return answer(KeysBody(tuple(_key(key) for key in await store.keys(user.user_id))))


async def create_user_key(request: web.Request) -> web.Response:
    """Make a key for somebody. It is shown only this once."""
    given = await json_of(request, KeyWanted)
    store = request.app[SERVICES].store
    made, key = await keys.create(store, await users.by_id(store, _id(request)), name=given.name)
    concerns(request, key_id=made.key_id)
    return answer(MadeKeyBody(key, _key(made)))


async def revoke_user_key(request: web.Request) -> web.Response:
    """Revoke a key: it is refused from the next request on."""
    store = request.app[SERVICES].store
    key = await _key_of(store, request)
    if not await store.revoke_key(key.key_id):
        raise Conflict("This key is revoked already")
    return answer(_key(await _key_of(store, request)))


async def rotate_user_key(request: web.Request) -> web.Response:
    """Make a key in place of another, which is revoked in the same moment."""
    store = request.app[SERVICES].store
    before = await _key_of(store, request)
    made, key = await keys.rotate(store, await users.by_id(store, _id(request)), before)
    concerns(request, key_id=made.key_id)
    return answer(MadeKeyBody(key, _key(made)))


async def purge_user(request: web.Request) -> web.Response:
    """Remove all that a user has sent and was told, for good: tasks of every status and what is kept of them.

    The account stays. What is waited for or worked on is cancelled first.
    """
    return answer(await request.app[SERVICES].removal.purge(_id(request)))


async def remove_user(request: web.Request) -> web.Response:
    """Remove a user for good: the account with its keys and sessions, and all that it has."""
    return answer(await request.app[SERVICES].removal.remove_account(_id(request)))


def _id(request: web.Request) -> str:
    return request.match_info["user_id"]


async def _key_of(store: Store, request: web.Request) -> ApiKey:
    key_id = request.match_info["key_id"]
    for key in await store.keys(_id(request)):
        if key.key_id == key_id:
            return key
    raise NotFound("There is no such key of this user")


def _user(user: User) -> UserBody:
    return UserBody(user.user_id, user.email, user.name, user.role, user.active, user.created_at)


def _key(key: ApiKey) -> KeyBody:
    return KeyBody(key.key_id, key.name, key.prefix, key.created_at, key.last_used_at, key.revoked_at)
