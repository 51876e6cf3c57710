"""Sessions: signing in with e-mail and password, and the tokens that come of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from docv2.accounts.attempts import Attempts, network_of
from docv2.accounts.passwords import Passwords
from docv2.accounts.private import write_private
from docv2.errors import RateLimited, StartError, Unauthenticated
from docv2.store.base import Store, User

log = logging.getLogger(__name__)

SECONDS = 24 * 3600
"""How long a token is good for."""

ALGORITHM = "HS256"
"""The one algorithm: a token never chooses how it is checked."""

FILE = "session.secret"
"""In the data folder."""
SECRET_BYTES = 32
"""Of HS256, at least (RFC 7518, 3.2)."""

PER_EMAIL = 10
"""Failures within WINDOW after which an e-mail is not tried any more."""
PER_NETWORK = 50
"""Likewise from one address, whichever e-mails it tries."""
WINDOW = 300.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Session:
    """A token and until when it is good."""

    user: User
    token: str
    expires_at: int
    """Unix seconds."""


class Sessions:
    """Makes and reads tokens. Asks the store every time, so that a lost account counts at once."""

    def __init__(self, store: Store, secret: str) -> None:
        self._store = store
        # HMAC itself fills a short key up with zeros. Done here, the library has no reason to warn at every call; a
        # short secret is told once, in the log.
        self._secret = secret.encode().ljust(SECRET_BYTES, b"\0")
        self._passwords = Passwords()
        self._by_email = Attempts(PER_EMAIL, WINDOW)
        self._by_network = Attempts(PER_NETWORK, WINDOW)
        self._library: ModuleType | None = None

    async def sign_in(self, email: str, password: str, address: str) -> Session:
        """A session for whoever knows the password.

        Unauthenticated, in the same words and time, where nobody has this e-mail, no password was set or it is another;
        RateLimited after too many of those.
        """
        tried = ((self._by_email, email.strip().casefold()), (self._by_network, network_of(address)))
        if wait := max(attempts.wait(name) for attempts, name in tried):
            raise RateLimited("Too many failed sign-ins", retry_after=wait)
        for attempts, name in tried:
            attempts.add(name)  # before it is known: many at once shall not all slip through
        found = await self._store.user_by_email(email.strip())
        credentials = await self._store.credentials(found.user_id if found else "")
        kept = credentials.password if credentials else None
        if not await self._passwords.match(password, kept) or credentials is None:
            log.warning("a sign-in failed", extra={"client": address or None})
            raise Unauthenticated("The e-mail address or the password is wrong")
        for attempts, name in tried:
            attempts.take_back(name)
        now = int(time.time())
        user, expires_at = credentials.user, now + SECONDS
        claims = {"sub": user.user_id, "stamp": credentials.session_stamp, "iat": now, "exp": expires_at}
        log.info("signed in", extra={"user_id": user.user_id})
        return Session(user, (await self._jwt()).encode(claims, self._secret, ALGORITHM), expires_at)

    async def _jwt(self) -> ModuleType:
        # Loaded with the first token: it brings 8 MB, and where programs alone call with keys there is none.
        if self._library is None:
            self._library = await asyncio.to_thread(import_module, "jwt")
        return self._library

    async def user(self, token: str) -> User:
        """The active user of a token that is good; Unauthenticated for any other."""
        jwt = await self._jwt()
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=[ALGORITHM], options={"require": ["exp", "iat", "sub", "stamp"]}
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("The session is not valid, or not any more; sign in again") from None
        credentials = await self._store.credentials(claims["sub"])
        if credentials is None or claims["stamp"] != credentials.session_stamp:
            raise Unauthenticated("The session is not valid, or not any more; sign in again")
        return credentials.user


async def load_secret(data_dir: Path, configured: str) -> str:
    """What tokens are signed with: as configured, else generated once into a file that only its owner can read."""
    if configured:
        if len(configured.encode()) < SECRET_BYTES:
            log.warning("WEBUI_SECRET_KEY is short: with %d bytes or more tokens cannot be guessed", SECRET_BYTES)
        return configured
    path = data_dir / FILE
    try:
        return await asyncio.to_thread(_read_or_make, path)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error


def _read_or_make(path: Path) -> str:
    try:
        if kept := path.read_text(encoding="utf-8").strip():
            return kept
    except FileNotFoundError:
        pass
    secret = secrets.token_urlsafe(SECRET_BYTES)
    write_private(path, secret + "\n")
    return secret
