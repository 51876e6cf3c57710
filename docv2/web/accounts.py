"""The routes of one's own account: sign in, who am I, the key that one looks after oneself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints

from docv2.accounts import keys, passwords, users
from docv2.errors import Forbidden, NotFound
from docv2.store.base import ApiKey
from docv2.validation import Input
from docv2.web.answers import answer
from docv2.web.audit import concerns
from docv2.web.inputs import json_of
from docv2.web.state import CLIENT, SERVICES, SIGNS_IN, USER


class SignIn(Input):
    """Who signs in."""

    email: Annotated[str, StringConstraints(strict=True, max_length=users.MAX_EMAIL)] = Field(
        description=f"an e-mail address of at most {users.MAX_EMAIL} characters"
    )
    password: Annotated[str, StringConstraints(strict=True, max_length=passwords.MOST)] = Field(
        description=f"text of at most {passwords.MOST} characters"
    )


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session. The token goes where an API key would."""

    token: str
    token_type: str
    """`Bearer`."""
    expires_at: int
    """Unix seconds. A new password ends the session before that."""
    id: str
    email: str
    name: str
    role: str
    """`user` or `admin`."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose the credentials are."""

    id: str
    email: str
    name: str
    role: str
    """`user` or `admin`."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key, shown only this once."""

    api_key: str
    prefix: str
    """What tells it from others later on."""
    created_at: float


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The key that the caller made. The key itself is not kept."""

    prefix: str
    """Its first characters."""
    created_at: float
    last_used_at: float | None = None
    """To the minute."""
    revoked_at: float | None = None


async def sign_in(request: web.Request) -> web.Response:
    """Sign in with e-mail and password."""
    given = await json_of(request, SignIn)
    request[SIGNS_IN] = await request.app[SERVICES].store.user_by_email(given.email.strip())
    session = await request.app[SERVICES].sessions.sign_in(given.email, given.password, request[CLIENT])
    user = session.user
    return answer(SignedIn(session.token, "Bearer", session.expires_at, user.user_id, user.email, user.name, user.role))


async def who_am_i(request: web.Request) -> web.Response:
    """Whose credentials these are."""
    user = request[USER]
    return answer(Account(user.user_id, user.email, user.name, user.role))


async def make_key(request: web.Request) -> web.Response:
    """Make the caller's own key; the one made before is revoked."""
    services = request.app[SERVICES]
    if not services.settings.enable_api_key:
        raise Forbidden("API keys are switched off on this server")
    made, key = await keys.replace_own(services.store, request[USER])
    concerns(request, key_id=made.key_id)
    return answer(NewKey(key, made.prefix, made.created_at))


async def show_key(request: web.Request) -> web.Response:
    """What is known of the caller's own key."""
    return answer(_own(await request.app[SERVICES].store.own_key(request[USER].user_id)))


async def revoke_key(request: web.Request) -> web.Response:
    """Revoke the caller's own key."""
    revoked = await request.app[SERVICES].store.revoke_own_key(request[USER].user_id)
    if revoked is not None:
        concerns(request, key_id=revoked.key_id)
    return answer(_own(revoked))


def _own(key: ApiKey | None) -> OwnKey:
    if key is None:
        raise NotFound("You have no key of your own")
    return OwnKey(key.prefix, key.created_at, key.last_used_at, key.revoked_at)
