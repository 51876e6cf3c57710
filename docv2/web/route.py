"""One line of the table of routes: what is called, and all that its description to clients is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from docv2.errors import DocV2Error
from docv2.validation import Input


@dataclass(frozen=True, slots=True)
class Route:
    """A method on a path. Its handler's docstring says to clients what it does."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    public: bool = False
    """Whether it answers without credentials."""
    admin: bool = False
    """Whether it answers administrators alone."""
    answers: Any = None
    """The type of the body of its success; a media type where that is no JSON."""
    query: type[Input] | None = None
    """What may stand in the query. Anything else is refused, as is everything where there is none."""
    headers: type[Input] | None = None
    """The headers that mean something to it alone, by their names as aliases."""
    json: type[Input] | None = None
    """Its body, where that is JSON."""
    creates: bool = False
    """Whether it answers 201 where there is something that was not there before, and else 200."""
    form: type[Input] | None = None
    """Its body, where that is a form with these fields and a file."""
    gives: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Ids in its answer that the paths of other routes take: the name there, and where it stands (JSON pointer)."""
    refuses: tuple[type[DocV2Error], ...] = ()
    """Beyond what any route refuses: bad credentials, unknown parameters, a database that is busy."""
