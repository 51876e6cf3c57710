"""Signing in: what a token is worth, to whom, and for how long; and what guessing brings."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from docv2.accounts import passwords, sessions, users
from docv2.store.writer import Kind
from tests.web.site import SECRET, Site

PASSWORD = "correct horse"
SIGN_IN = "/api/v1/auths/signin"


async def sign_in(site: Site, email: str = "ada@example.org", password: str = PASSWORD) -> tuple[int, Any, Any]:
    return await site.call("POST", SIGN_IN, key=None, json={"email": email, "password": password})


async def worth(site: Site, token: str) -> int:
    """The status that a token gets."""
    return (await site.call("GET", "/api/v1/auths/", key=token))[0]


async def test_a_password_gets_a_token_that_is_taken_wherever_a_key_is(site: Site) -> None:
    await users.set_password(site.store, "ada@example.org", PASSWORD)
    status, body, headers = await sign_in(site, "ADA@example.org")
    assert status == 200
    token = body.pop("token")
    assert abs(body.pop("expires_at") - time.time() - sessions.SECONDS) < 60
    assert body == {
        "token_type": "Bearer",
        "id": site.user.user_id,
        "email": "ada@example.org",
        "name": "ada",
        "role": "user",
    }
    assert headers["Cache-Control"] == "no-store"
    assert await worth(site, token) == 200
    task_id = await site.accepted(key=token)
    assert (await site.status(task_id))["task_id"] == task_id


async def test_who_am_i(site: Site) -> None:
    expected = {"id": site.user.user_id, "email": "ada@example.org", "name": "ada", "role": "user"}
    for credentials in (site.key, await site.sign_in()):
        status, body, _ = await site.call("GET", "/api/v1/auths/", key=credentials)
        assert (status, body) == (200, expected)


async def test_a_token_verifies_with_the_configured_secret_and_names_no_more_than_it_must(site: Site) -> None:
    claims = jwt.decode(await site.sign_in(), SECRET, algorithms=["HS256"])
    assert set(claims) == {"sub", "stamp", "iat", "exp"}
    assert claims["sub"] == site.user.user_id


# -- no ---------------------------------------------------------------------------------------------------------------
async def test_every_failure_gets_the_same_answer(site: Site) -> None:
    await users.set_password(site.store, "ada@example.org", PASSWORD)
    await users.add(site.store, "no-password@example.org")
    await users.add(site.store, "gone@example.org")
    await users.set_password(site.store, "gone@example.org", PASSWORD)
    await deactivate(site, "gone@example.org")
    answers = []
    for email, password in (
        ("ada@example.org", "wrong horse"),
        ("ada@example.org", ""),
        ("no-password@example.org", PASSWORD),
        ("no-password@example.org", ""),
        ("gone@example.org", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("", ""),
    ):
        status, body, headers = await sign_in(site, email, password)
        answers.append((status, body["detail"], body["error_type"], headers["WWW-Authenticate"]))
    assert len(set(answers)) == 1
    assert answers[0][0::2] == (401, "auth_error")


async def test_a_failure_takes_as_long_for_nobody_as_for_somebody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is done, not by the clock: one hash of the same cost each."""
    await users.set_password(site.store, "ada@example.org", PASSWORD)
    compared: list[str] = []
    matches = passwords._matches

    def watched(password: str, kept: str) -> bool:
        compared.append(kept.rpartition("$")[0].rpartition("$")[0])
        return matches(password, kept)

    monkeypatch.setattr(passwords, "_matches", watched)
    for email in ("ada@example.org", "nobody@example.org"):
        assert (await sign_in(site, email, "wrong horse"))[0] == 401
    assert compared == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b"\xff\xfe{", "application/json", 400),
        (b'{"email": "a@b"}', "application/json", 400),
        (b'{"email": "a@b", "password": 1}', "application/json", 400),
        (b'{"email": ["a@b"], "password": "x"}', "application/json", 400),
        (b'{"email": "a@b", "password": "x", "role": "admin"}', "application/json", 400),
        (b'{"email": "\\ud800", "password": "x"}', "application/json", 400),
        (b'{"email": "a@b", "password": "x"}', "text/plain", 400),
        (b"email=a&password=b", "application/x-www-form-urlencoded", 400),
        (json.dumps({"email": "a" * 255, "password": "x"}).encode(), "application/json", 422),
        (json.dumps({"email": "a", "password": "x" * 1001}).encode(), "application/json", 422),
        (json.dumps({"email": "a", "password": "x" * 17_000}).encode(), "application/json", 413),
    ],
)
async def test_what_is_no_sign_in_is_refused(site: Site, body: bytes, content_type: str, expected: int) -> None:
    status, answer, _ = await site.call("POST", SIGN_IN, key=None, data=body, headers={"Content-Type": content_type})
    assert (status, answer["error_type"]) == (expected, "validation_error")


# -- not any more -----------------------------------------------------------------------------------------------------
async def deactivate(site: Site, email: str, active: int = 0) -> None:
    statement = "UPDATE users SET active = ? WHERE email = ?"
    await site.store._writer.submit(Kind.REQUEST, lambda connection: connection.execute(statement, (active, email)))


async def test_a_new_password_ends_every_session(site: Site) -> None:
    token = await site.sign_in()
    again = await site.sign_in(PASSWORD)  # even where it is the same as before
    assert (await worth(site, token), await worth(site, again)) == (401, 200)
    assert await worth(site, site.key) == 200


async def test_an_account_that_is_switched_off_has_no_session_also_when_it_comes_back(site: Site) -> None:
    token = await site.sign_in()
    await deactivate(site, "ada@example.org")
    assert (await worth(site, token), await worth(site, site.key)) == (401, 401)
    await deactivate(site, "ada@example.org", active=1)
    assert (await worth(site, token), await worth(site, site.key)) == (401, 200)


# -- forged -----------------------------------------------------------------------------------------------------------
def raw(header: dict[str, Any], claims: object, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token with any header, signed for real."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    signature = hmac.digest(secret.encode(), ".".join(parts).encode(), digest)
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


async def test_no_forged_token_is_taken(site: Site) -> None:
    good = await site.sign_in()
    claims = jwt.decode(good, SECRET, algorithms=["HS256"])
    header = {"alg": "HS256", "typ": "JWT"}
    head, body, signature = good.split(".")
    assert await worth(site, raw(header, claims)) == 200  # so the others fail for what is wrong with them
    now = int(time.time())
    forged = {
        "no algorithm": raw({"alg": "none"}, claims),
        "no algorithm, no signature": f"{raw({'alg': 'none'}, claims).rpartition('.')[0]}.",
        "another hash": raw({"alg": "HS512"}, claims, digest="sha512"),
        "public key algorithm": raw({"alg": "RS256"}, claims),
        "a key of its own": raw({**header, "jwk": {"kty": "oct", "k": "c2VjcmV0"}}, claims, secret="secret"),
        "a key from a file": raw({**header, "kid": "../../dev/null"}, claims, secret=""),
        "another secret": raw(header, claims, secret="x" * 40),
        "empty secret": raw(header, claims, secret=""),
        "no expiry": raw(header, {name: value for name, value in claims.items() if name != "exp"}),
        "expired": raw(header, {**claims, "exp": now - 1}),
        "made tomorrow": raw(header, {**claims, "iat": now + 86400}),
        "no subject": raw(header, {name: value for name, value in claims.items() if name != "sub"}),
        "no stamp": raw(header, {name: value for name, value in claims.items() if name != "stamp"}),
        "stamp of another kind": raw(header, {**claims, "stamp": None}),
        "stamp that is a list": raw(header, {**claims, "stamp": [claims["stamp"]]}),
        "empty stamp": raw(header, {**claims, "stamp": ""}),
        "stamp not ASCII": raw(header, {**claims, "stamp": "é"}),
        "stamp that is no text": raw(header, {**claims, "stamp": "\ud800"}),
        "another subject": raw(header, {**claims, "sub": "somebody"}),
        "subject of another kind": raw(header, {**claims, "sub": {"$ne": ""}}),
        "expiry of another kind": raw(header, {**claims, "exp": "never"}),
        "subject that is no text": raw(header, {**claims, "sub": "\ud800"}),
        "claims that are a list": raw(header, [claims]),
        "critical extension": raw({**header, "crit": ["exp"]}, claims),
        "changed": f"{head}.{body[:-2]}AA.{signature}",
        "cut": good[:-1],
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "dots": "...",
        "not ASCII": "é.é.é",
    }
    found = {name: await worth(site, token) for name, token in forged.items()}
    assert {name: status for name, status in found.items() if status != 401} == {}


# -- guessing ---------------------------------------------------------------------------------------------------------
async def test_guessing_at_one_e_mail_is_ended_from_wherever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.sessions._by_email, "_most", 3)
    await users.set_password(site.store, "ada@example.org", PASSWORD)
    assert [(await sign_in(site, "ada@example.org", "wrong"))[0] for _ in range(4)] == [401, 401, 401, 429]
    status, body, headers = await sign_in(site, " ADA@example.org")  # the right one, and spelt differently
    assert (status, body["error_type"]) == (429, "rate_limit_error")
    assert 1 <= int(headers["Retry-After"]) <= sessions.WINDOW
    assert (await sign_in(site, "bob@example.org", "wrong"))[0] == 401


async def test_many_guesses_at_once_do_not_slip_through(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.sessions._by_email, "_most", 3)
    answers = await asyncio.gather(*(sign_in(site, "ada@example.org", "wrong") for _ in range(20)))
    assert sorted(status for status, _, _ in answers) == [401] * 3 + [429] * 17


async def test_guessing_from_one_address_is_ended_at_whichever_e_mail(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.services.sessions._by_network, "_most", 3)
    answers = [(await sign_in(site, f"{number}@example.org", "wrong"))[0] for number in range(5)]
    assert answers == [401, 401, 401, 429, 429]


async def test_signing_in_often_is_no_guessing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.sessions._by_email, "_most", 2)
    await users.set_password(site.store, "ada@example.org", PASSWORD)
    assert [(await sign_in(site))[0] for _ in range(5)] == [200] * 5


async def test_a_crowd_is_sent_away_rather_than_kept_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAITING", 2)
    answers = await asyncio.gather(*(sign_in(site, f"{number}@example.org", "wrong") for number in range(8)))
    refused = [headers for status, _, headers in answers if status == 503]
    assert refused
    assert all(int(headers["Retry-After"]) >= 1 for headers in refused)
    assert {status for status, _, _ in answers} == {401, 503}
    assert (await sign_in(site, "0@example.org", "wrong"))[0] == 401


async def test_nothing_of_a_sign_in_is_in_a_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = await site.sign_in("my secret password")
    await sign_in(site, "ada@example.org", "my secret password?")
    told = json.dumps([vars(record) for record in caplog.records], default=str)
    assert "a sign-in failed" in told
    assert "my secret" not in told
    assert token not in told
    assert hashlib.sha256(token.encode()).hexdigest() not in told
