"""A model for the scripted endpoint that knows only what a request holds, and refuses what it cannot hold.

Documents of the tests carry lines `FACT name: value`, in their text or in the bytes of their pictures. Asked to `find`,
`list`, `count`, `compare` or `summarise`, the model answers with those lines that it was given, each with its page, and
with what follows from them. So an answer is right only if every fact reached it and none was made up on the way.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from docv2.llm.prompt import Fenced, read_fences
from tests.endpoint import Behaviour, Call, answer, status

FACT = re.compile(r"FACT ([\w-]+): (\d+)(?: \(page (\d+)\))?")
PICTURE_TOKENS = 500


def fact(name: str, value: int) -> str:
    """A line of a document."""
    return f"FACT {name}: {value}"


def filler(number: int, length: int = 1500) -> str:
    """Text without a fact, another on every page."""
    words = f"Paragraph {number} says nothing that anybody would ask for. "
    return (words * (length // len(words) + 1))[:length]


@dataclass
class ReadingModel:
    """Answers as described above, within its limits."""

    context: int = 8_192
    """Tokens of request and answer together."""
    pictures: int = 8
    bytes_per_token: float = 4.0
    states_context: bool = True
    """Whether its refusal names its context."""
    sees: bool = True
    entry_context: int | None = None
    """What its list says of its context, where that is not the truth."""
    gives: Callable[[str], Behaviour] | None = None
    """Stands in for how an answer is sent."""
    answered: list[Fenced] = field(default_factory=list)
    """What it gave answers to, in order."""
    refused: int = 0

    @property
    def entry(self) -> dict[str, object]:
        """Its line in the list of models."""
        return {
            "id": "reader",
            "max_model_len": self.entry_context or self.context,
            "pictures_per_call": 32,
            "architecture": {"input_modalities": ["text", "image"] if self.sees else ["text"]},
        }

    def tokens(self, call: Call) -> int:
        """Of a request."""
        return math.ceil(len(call.text.encode()) / self.bytes_per_token) + PICTURE_TOKENS * len(call.pictures)

    async def __call__(self, call: Call) -> web.StreamResponse:
        asked, most = self.tokens(call), int(call.json.get("max_tokens", 0))
        if call.pictures and not self.sees:
            self.refused += 1
            return await status(400, {"error": {"message": "reader does not support image input"}})(call)
        if len(call.pictures) > self.pictures:
            self.refused += 1
            return await status(400, {"error": {"message": f"At most {self.pictures} image(s) may be provided"}})(call)
        if asked + most > self.context:
            self.refused += 1
            words = f"maximum context length is {self.context} tokens" if self.states_context else "prompt is too long"
            code = "context_length_exceeded"
            return await status(400, {"error": {"message": f"This model's {words}.", "code": code}})(call)
        fenced = read_fences(call.json["messages"])
        said = respond(fenced)
        kept = said.encode()[: int(most * self.bytes_per_token)].decode(errors="ignore")
        self.answered.append(fenced)
        if self.gives is not None:
            return await self.gives(kept)(call)
        usage = (asked, math.ceil(len(kept.encode()) / self.bytes_per_token))
        return await answer(kept, finish="stop" if kept == said else "length", usage=usage)(call)


def respond(given: Fenced) -> str:
    """What follows from a request, and from nothing else."""
    facts: dict[str, tuple[int, int]] = {}
    for page in given.pages:
        text = page.text or base64.b64decode(page.picture.partition(",")[2]).decode("latin-1")
        facts |= {name: (int(value), page.number) for name, value, _ in FACT.findall(text)}
    for part in given.answers:
        facts |= {name: (int(value), int(page)) for name, value, page in FACT.findall(part.text)}
    what, *names = given.request.split()
    wanted = {name: found for name, found in facts.items() if not names or name in names}
    if not wanted:
        return "These pages hold nothing of it."
    lines = [f"FACT {name}: {value} (page {page})" for name, (value, page) in sorted(wanted.items())]
    if what == "count":
        lines.append(f"There are {len(wanted)}.")
    if what == "compare" and len(wanted) == 2:
        more = max(wanted, key=lambda name: wanted[name][0])
        lines.append(f"{more} is more.")
    if what == "summarise":
        lines.append(f"In all {sum(value for value, _ in wanted.values())}.")
    return "\n".join(lines)
