"""What both clients share of the HTTP library: how it is set up, asked, and understood."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2

from docv2 import __version__
from docv2.client.errors import Unreachable
from docv2.client.operations import Reply, Request

DEFAULT_URL = "http://127.0.0.1:3000"
CONNECT_TIMEOUT = 10.0
"""Seconds."""


def options(url: str | None, api_key: str | None) -> dict[str, Any]:
    """How the HTTP client is made. ValueError where the URL or the key cannot be right."""
    url = url or os.environ.get("DOCV2_URL") or DEFAULT_URL
    key = (api_key or os.environ.get("DOCV2_API_KEY") or "").strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the server's URL must start with http:// or https://, not {url!r}")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("the API key holds characters that no key has")
    return {
        "base_url": url,
        "headers": {"User-Agent": f"docv2-client/{__version__}", "Accept": "application/json"}
        | ({"Authorization": f"Bearer {key}"} if key else {}),
        # A key must not follow a redirect to another host; a long poll each for many tasks must not wait for another's.
        "follow_redirects": False,
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=20),
    }


def build(
    http: httpx2.Client | httpx2.AsyncClient, request: Request, body: Iterator[bytes] | AsyncIterator[bytes] | None
) -> httpx2.Request:
    """The library's form of a request."""
    headers = dict(request.headers)
    if request.upload is not None:
        headers["Content-Type"] = request.upload.content_type
        if request.upload.length is not None:
            headers["Content-Length"] = str(request.upload.length)
    return http.build_request(
        request.method,
        request.path,
        params=request.params,
        headers=headers,
        content=body,
        timeout=httpx2.Timeout(request.timeout, connect=min(CONNECT_TIMEOUT, request.timeout), pool=None),
    )


def reply(response: httpx2.Response) -> Reply:
    """The operations' form of an answer."""
    return Reply(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
    )


def unreachable(error: httpx2.RequestError) -> Unreachable:
    """The operations' form of no answer."""
    url = error.request.url
    what = "took too long" if isinstance(error, httpx2.TimeoutException) else _cause(error)
    return Unreachable(f"no answer from {url.scheme}://{url.netloc.decode()}: {what}")


def _cause(error: BaseException) -> str:
    """What the system said, which lies below what each library on the way makes of it."""
    below: BaseException | None = error
    said = ""
    while below is not None:
        if isinstance(below, ConnectionError) and below.errno:
            return os.strerror(below.errno)
        said = getattr(below, "strerror", None) or said or str(below) or type(below).__name__
        below = below.exceptions[0] if isinstance(below, BaseExceptionGroup) else below.__cause__ or below.__context__
    return said
