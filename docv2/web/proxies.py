"""Where a request came from, when proxies stand in between."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
"""Headers of which a proxy adds at least one."""


LONGEST_KEPT = 200
"""Characters: four hops and more."""


class ClientAddress:
    """Finds the address of the nearest sender that is no proxy of ours; empty where the connection is gone already."""

    def __init__(self, trusted: Collection[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted
        self._found = lru_cache(maxsize=1024)(self._find)  # finding it anew at each poll was 4 % of it

    def __call__(self, request: web.Request) -> str:
        """Where a request came from."""
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        find = self._found if len(forwarded) <= LONGEST_KEPT else self._find  # what is kept is the client's own text
        return find(request.remote or "", forwarded)

    def _find(self, remote: str, forwarded: str) -> str:
        # Anyone may write X-Forwarded-For, and each proxy appends whom it spoke with. So it is read from its right end,
        # and only while the sender found so far is trusted: what a client wrote in front of that is never reached.
        address, hops = _parsed(remote), forwarded.split(",")
        while address and hops and any(address in network for network in self._trusted):
            before = _parsed(hops.pop().strip())
            if before is None:
                break
            address = before
        return str(address or "")


def is_forwarded(request: web.Request) -> bool:
    """Whether a proxy sent the request, trusted or not: then it did not begin on this machine, whatever it says."""
    return any(name in request.headers for name in FORWARDING)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address, without its zone, and as IPv4 where it is one in IPv6's clothes; None for anything else."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
