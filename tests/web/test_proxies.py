"""Whose address counts: the peer's, or what proxies that are ours say; never what a client says of itself."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from docv2.store.sqlite import SQLiteStore
from docv2.web.proxies import ClientAddress, is_forwarded
from tests.web.site import open_site

OURS = (ip_network("127.0.0.1"), ip_network("::1"), ip_network("10.1.0.0/16"))
SOMEBODY = "203.0.113.7"


class Transport:
    """A connection from an address."""

    def __init__(self, peer: str | None) -> None:
        self.peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self.peer, 50000) if name == "peername" and self.peer is not None else default


def seen(peer: str | None, *forwarded: str) -> str:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    return ClientAddress(OURS)(make_mocked_request("GET", "/", headers, transport=Transport(peer)))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (SOMEBODY, (), SOMEBODY),
        (SOMEBODY, ("127.0.0.1",), SOMEBODY),
        (SOMEBODY, ("198.51.100.1, 127.0.0.1",), SOMEBODY),
        ("127.0.0.1", (), "127.0.0.1"),
        ("127.0.0.1", (SOMEBODY,), SOMEBODY),
        ("127.0.0.1", (f"127.0.0.1, {SOMEBODY}",), SOMEBODY),
        ("127.0.0.1", (f"198.51.100.1, {SOMEBODY}, 10.1.2.3",), SOMEBODY),
        ("127.0.0.1", ("198.51.100.1", SOMEBODY), SOMEBODY),
        ("127.0.0.1", ("10.1.2.3",), "10.1.2.3"),
        ("::1", ("2001:db8::5",), "2001:db8::5"),
        ("::ffff:127.0.0.1", (f"::ffff:{SOMEBODY}",), SOMEBODY),
        ("fe80::1%eth0", (SOMEBODY,), "fe80::1"),
    ],
    ids=[
        "nobody between",
        "a stranger claims to be here",
        "a stranger invents a chain that ends here",
        "from this machine",
        "through our proxy",
        "through our proxy, with a forged address in front",
        "through two proxies of ours",
        "in two headers, of which the first is forged",
        "a proxy of ours asks for itself",
        "IPv6",
        "IPv4 in IPv6",
        "a zone is no part of an address",
    ],
)
def test_the_nearest_sender_that_is_not_ours_counts(peer: str, forwarded: tuple[str, ...], client: str) -> None:
    assert seen(peer, *forwarded) == client


@pytest.mark.parametrize("nonsense", ["", ",", "unknown", "1.2.3", "1.2.3.4:5", "[::1]:80", "<b>", "1.2.3.4\x01"])
def test_what_is_no_address_ends_the_chain_at_the_proxy_that_sent_it(nonsense: str) -> None:
    assert seen("127.0.0.1", f"{SOMEBODY}, {nonsense}") == "127.0.0.1"
    assert seen("127.0.0.1", f"{nonsense}, {SOMEBODY}") == SOMEBODY


def test_a_connection_that_is_gone_has_no_address() -> None:
    assert seen(None, SOMEBODY) == ""


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_what_a_proxy_sent_is_known_by_its_headers(header: str) -> None:
    assert is_forwarded(make_mocked_request("GET", "/", {header: ""}))
    assert not is_forwarded(make_mocked_request("GET", "/"))


@pytest.mark.parametrize(("trusted", "client"), [(OURS, SOMEBODY), ((), "127.0.0.1")])
async def test_the_log_names_the_client(
    tmp_path: Path, store: SQLiteStore, caplog: pytest.LogCaptureFixture, trusted: object, client: str
) -> None:
    async with open_site(tmp_path, store, trusted_proxies=trusted) as site:
        with caplog.at_level(logging.DEBUG, "docv2.web.access"):
            await site.call("GET", "/api/version", headers={"X-Forwarded-For": f"10.1.2.3, {SOMEBODY}"})
    assert [record.client for record in caplog.records if hasattr(record, "client")] == [client]


def test_no_client_fills_the_memory_with_what_it_writes_into_its_headers() -> None:
    address = ClientAddress(OURS)
    headers = {"X-Forwarded-For": ", ".join(["198.51.100.7"] * 500)}
    assert address(make_mocked_request("GET", "/", headers, transport=Transport("127.0.0.1"))) == "198.51.100.7"
    assert address._found.cache_info().currsize == 0
