"""Answering one chat request, whole, in a sandboxed child: the server does not so much as decode it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docv2.llm.embedded import ocr, summary, tesseract, wording
from docv2.llm.embedded.passages import Passage, passages
from docv2.llm.embedded.search import best, search
from docv2.llm.embedded.wording import Findings
from docv2.llm.plan import BYTES_PER_TOKEN
from docv2.llm.prompt import Fenced, FencedAnswer, FencedPage, read_fences

MODEL = "docv2-local-reader"

CONTEXT = 500_000
"""Tokens: some 500 pages of print. A text that is searched whole is searched better than in parts."""

PICTURES_PER_CALL = 8
"""Pictures that docv2 is asked to send at once: ten seconds of work, after which the part's answer is stored."""

REQUEST_FILE = "request.json"

Event = dict[str, Any]
"""`{"accepted": {"stream", "usage"}}`, `{"page": number}` after each picture, and `{"answer": {"content",
"finish_reason", "prompt_tokens", "completion_tokens"}}`; or one `{"refused": {"status", "code", "message"}}`."""


class RefusedError(Exception):
    """Why a request cannot be answered."""

    def __init__(self, message: str, *, status: int = 400, code: str = "invalid_request") -> None:
        """`status` is HTTP's, `code` the interface's word for it."""
        super().__init__(message)
        self.event: Event = {"refused": {"status": status, "code": code, "message": message}}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for."""

    document: Fenced
    text_bytes: int
    max_tokens: int
    stream: bool
    usage: bool
    """Whether the stream ends with a count of tokens."""


def answer(folder: str) -> Iterator[Event]:
    """The job: answer the request that lies in a folder of its own.

    What was read in each picture is kept there, an empty file while it is looked at. So a picture that kills the child
    is passed over when the job is run again.
    """
    try:
        ask = _ask((Path(folder) / REQUEST_FILE).read_bytes())
        engine = tesseract.engine() if any(page.picture for page in ask.document.pages) else None
    except RefusedError as refused:
        yield refused.event
        return
    except tesseract.MissingError:
        message = "Reading pictures takes Tesseract, which is not installed here: install docv2[reader]."
        yield RefusedError(message, status=422, code="no_tesseract").event
        return
    yield {"accepted": {"stream": ask.stream, "usage": ask.usage}}
    read: list[tuple[int, str]] = []
    unread: dict[int, str] = {}
    for at, page in enumerate(ask.document.pages):
        if engine is None or not page.picture:
            read.append((page.number, page.text))
            continue
        text, reason = _look(engine, page, Path(folder) / f"{at}.txt")
        read.append((page.number, text))
        if not text:
            unread[page.number] = reason
        yield {"page": page.number}
    content = _content(ask.document, read, unread).encode(errors="replace").decode()  # JSON may hold half a character.
    cut = content.encode()[: ask.max_tokens * BYTES_PER_TOKEN].decode(errors="ignore")
    seen = sum(len(text.encode()) for page, (_, text) in zip(ask.document.pages, read, strict=True) if page.picture)
    yield {
        "answer": {
            "content": cut,
            "finish_reason": "stop" if cut == content else "length",
            "prompt_tokens": (ask.text_bytes + seen) // BYTES_PER_TOKEN,
            "completion_tokens": -(-len(cut.encode()) // BYTES_PER_TOKEN),
        }
    }


def _content(document: Fenced, read: Iterable[tuple[int, str]], unread: dict[int, str]) -> str:
    """The whole answer: to pages, or of answers to parts."""
    if document.answers:
        return _merged(document.request, document.answers)
    found: list[Passage] = []
    by_page: dict[int, str] = {}
    for page, text in read:
        # A page that comes as text and as picture is read twice; what the text has already is enough.
        known = by_page.get(page, "")
        found += [passage for passage in passages(page, text) if passage.text not in known]
        by_page[page] = f"{known} {' '.join(text.split())}"
    asks_summary = summary.wanted(document.request)
    quotes = summary.summarise(found) if asks_summary else search(document.request, found)
    unread = {page: reason for page, reason in unread.items() if not by_page[page].strip()}
    return wording.compose(Findings(quotes, unread), summary=asks_summary)


def _merged(request: str, answers: Iterable[FencedAnswer]) -> str:
    """The best quotes of all parts; a part in which nothing was found has none."""
    asks_summary = summary.wanted(request)
    parts = wording.merge(_findings(request, answer) for answer in answers)
    by_score = sorted(parts.quotes, key=lambda quote: -quote.score)
    quotes = best(iter(by_score), summary.SENTENCES) if asks_summary else best(iter(by_score))
    if asks_summary:
        quotes.sort(key=parts.quotes.index)
    return wording.compose(Findings(quotes, parts.unread), summary=asks_summary)


def _findings(request: str, answer: FencedAnswer) -> Findings:
    """What an answer to a part says; one that another model wrote is searched like a page."""
    if wording.NOTICE in answer.text:
        return wording.parse(answer.text)
    return Findings(search(request, list(passages(answer.first_page, answer.text))))


def _look(engine: tesseract.Engine, page: FencedPage, kept: Path) -> tuple[str, str]:
    """The text in a page's picture, or none and why."""
    if kept.exists():
        return kept.read_text("utf-8"), "looking at it failed"
    kept.touch()
    try:
        head, _, data = page.picture.partition(",")
        if not head.startswith("data:image/") or not head.endswith(";base64"):
            raise tesseract.UnreadableError("its picture is not sent along")
        text = ocr.read(engine, base64.b64decode(data, validate=True))
    except binascii.Error:
        return "", "its picture is damaged"
    except tesseract.UnreadableError as error:
        return "", str(error)
    kept.write_text(text, "utf-8")
    return text, ""


# -- the request ------------------------------------------------------------------------------------------------------
def _ask(body: bytes) -> Ask:
    """A request's body, checked; RefusedError names the first thing that is wrong."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError("The body is not JSON.") from None
    if not isinstance(asked, dict):
        raise RefusedError("The body is not an object.")
    if asked.get("model") != MODEL:
        raise RefusedError(f"The only model here is {MODEL}.", status=404, code="model_not_found")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise RefusedError("`messages` takes a list of messages with a text, or with parts of type text or image_url.")
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or CONTEXT
    temperature = asked.get("temperature") or 0
    if not isinstance(limit, int) or limit < 1 or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise RefusedError("`max_tokens` is a count from 1, `temperature` a number from 0 to 2.")
    text_bytes = sum(len(text.encode(errors="replace")) for message in messages for text in _texts(message))
    if text_bytes > CONTEXT * BYTES_PER_TOKEN:
        message = f"This model's maximum context length is {CONTEXT} tokens."
        raise RefusedError(message, code="context_length_exceeded")
    options = asked.get("stream_options")
    usage = isinstance(options, dict) and options.get("include_usage") is True
    return Ask(_document(messages), text_bytes, limit, asked.get("stream") is True, usage)


def _is_message(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, str) or (isinstance(content, list) and bool(content) and all(map(_is_part, content)))


def _is_part(part: object) -> bool:
    match part:
        case {"type": "text", "text": str()}:
            return True
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return bool(url)
    return False


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _document(messages: list[dict[str, Any]]) -> Fenced:
    """The request and the pages: fenced by docv2, or else what stands before the last paragraph, which asks."""
    try:
        return read_fences(messages)
    except ValueError:
        pass
    text = "\n\n".join(text for message in messages if message.get("role") == "user" for text in _texts(message))
    parts = [part for message in messages for part in message["content"] if isinstance(part, dict)]
    pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    page, _, request = text.rstrip().rpartition("\n\n")
    pages = [FencedPage(1, text=page)] if page.strip() else []
    pages += [FencedPage(number, picture=url) for number, url in enumerate(pictures, len(pages) + 1)]
    return Fenced(request, tuple(pages))
