"""A model's answer as it arrives, in pieces or at once, and whether what came was one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from docv2.errors import ModelError, UpstreamUnavailable
from docv2.llm.failures import scrub


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's whole answer."""

    content: str
    finish_reason: str
    """`stop`; `length` where the answer was cut at `max_tokens`; or another word of the endpoint's."""
    prompt_tokens: int
    """0 where the endpoint does not count."""
    completion_tokens: int
    notes: tuple[str, ...] = ()
    """What the reader of the answer must know: a parameter left out, a document shortened by the endpoint."""


class _Said(BaseModel):
    content: str | list[Any] | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    index: int | None = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Completion(BaseModel):
    """What we read of an answer or of a piece of one. Everything else in it is the endpoint's own affair."""

    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None


class Answer:
    """An answer as it arrives."""

    def __init__(self, on_progress: Callable[[int], None] | None) -> None:
        self._on_progress = on_progress
        self._pieces: list[str] = []
        self._length = 0
        self._refusal = ""
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}

    def add(self, chunk: object) -> None:
        """Take up a piece; ValueError where it is none."""
        completion = _Completion.model_validate(chunk)
        self._usage = completion.usage or self._usage
        for choice in completion.choices or ():
            if choice.index:
                continue  # only one was asked for
            said = choice.delta or choice.message
            if said is not None:
                self._refusal += said.refusal or ""
                self._say(_text(said.content))
            self._finish_reason = choice.finish_reason or self._finish_reason

    def _say(self, text: str) -> None:
        if not text:
            return
        self._pieces.append(text)
        self._length += len(text)
        if self._on_progress is not None:
            self._on_progress(self._length)

    def finish(self, *, complete: bool = False) -> Reply:
        """The whole answer, or the error for one that is none. `complete` says that its end is beyond doubt."""
        # what no database takes as text: half of a surrogate pair, NUL
        content = "".join(self._pieces).encode("utf-8", "replace").decode().replace("\0", "")
        reason = self._finish_reason or ("stop" if complete and content else "")
        prompt_tokens, completion_tokens = (
            _count(self._usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion")
        )
        if self._refusal:
            raise ModelError(f"The model refused to answer: {scrub(self._refusal, ())}")
        if reason == "content_filter":
            raise ModelError("The model endpoint's content filter stopped the answer.")
        if reason == "error":  # OpenRouter, where a provider fails in the middle
            raise UpstreamUnavailable("The model endpoint broke the answer off with an error.", endpoint_down=False)
        if not reason:
            what = "broke off in the middle of its answer" if content else "answered without a choice"
            raise UpstreamUnavailable(f"The model endpoint {what}.", endpoint_down=False)
        if not content.strip():
            if reason == "length":
                raise ModelError("The model used up max_tokens before it wrote an answer; it may need a larger one.")
            raise UpstreamUnavailable("The model endpoint answered with nothing.", endpoint_down=False)
        return Reply(content, scrub(reason, ())[:40], prompt_tokens, completion_tokens)


def _text(content: str | list[Any] | None) -> str:
    """The text of a content; Mistral sends a list of parts, thinking among them."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content or ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
