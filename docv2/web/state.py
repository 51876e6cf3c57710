"""What handlers find on the application and on the request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from docv2.accounts.keys import KeyCheck
from docv2.store.base import User
from docv2.validation import Input
from docv2.web.proxies import ClientAddress

if TYPE_CHECKING:
    from docv2.bootstrap import Services
    from docv2.web.route import Route

SERVICES: web.AppKey[Services] = web.AppKey("services")
KEY_CHECK = web.AppKey("key_check", KeyCheck)
CLIENT_ADDRESS = web.AppKey("client_address", ClientAddress)
ROUTE_TABLE: web.AppKey[Iterable[Route]] = web.AppKey("route_table")
"""What the application answers."""
DESCRIPTION: web.AppKey[list[bytes]] = web.AppKey("description")
"""The description of the API once it was asked for; empty until then."""

REQUEST_ID = web.RequestKey("request_id", str)
CLIENT = web.RequestKey("client", str)
"""The address that the request came from, proxies that are ours seen through."""
QUERY = web.RequestKey("query", Input)
"""The parameters of the query, as the route's model has them."""
FIELDS: web.RequestKey[dict[str, int]] = web.RequestKey("fields")
"""Names of the fields that were sent, of those that there are, and their sizes in characters."""
USER = web.RequestKey("user", User)
"""Whoever sent the request; only on routes that ask for credentials."""
SIGNS_IN: web.RequestKey[User | None] = web.RequestKey("signs_in")
"""Whose account a sign-in is for, whether it succeeds or not; None where nobody has the address."""
CONCERNS: web.RequestKey[dict[str, object]] = web.RequestKey("concerns")
"""Ids of what the request made or changed, where its address does not name it."""
