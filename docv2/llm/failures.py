"""What went wrong at a model endpoint, told from what it sent: one error of docv2.errors for every way to fail."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import openai

from docv2.errors import CannotSee, ContextExceeded, DocV2Error, ModelError, UpstreamUnavailable

LONGEST_RETRY_AFTER = 3600.0
"""Seconds; an endpoint that names a later time is asked again after this."""
WORDS = 300
"""Characters of an endpoint's own words that are passed on."""
MATCHED = 8_000
"""Characters of an error body that are searched for what it means."""

DOWN = frozenset({429, 502, 503, 521, 522, 523, 529})
"""The endpoint says that it, not the request, is the trouble. 521 to 523: Cloudflare finds no origin; 529: too busy."""
PATIENCE = frozenset({429, 529})
"""Those that mean nothing but 'later': never the fault of a task."""
PASSING = frozenset({408, 425})
"""Client errors by number that are worth another try."""

SEES_NOT = re.compile(
    "|".join(
        (
            r"image_url is only supported by certain models",  # OpenAI, Azure
            r"is not a multimodal model",  # vLLM
            r"image input is not supported",  # llama.cpp, with status 500
            r"(not|n't) support (image|vision|multi-?modal) ?inputs?\b",  # Ollama
            r"(not|n't) support (images\b|vision\b|multi-?modal\b|image_url)",  # LM Studio and others
            r"missing data required for image input",  # Ollama, models without their projector
            r"no endpoints found that support image",  # OpenRouter, with status 404
            r"(image_url|image content|vision|multi-?modal)( content| input)? is not supported",
            r"only '?text'? content type is supported",  # mlx-lm
            r"unknown variant `?image_url",  # DeepSeek and others in Rust
            r"unexpected item type in content",  # DashScope
            r"at most 0 image",  # vLLM started without pictures
            r"\bcontent\b.{0,80}(should|must) be a (valid )?string",  # servers that know no parts at all, with 422
        )
    )
)
"""How servers say that a model takes no pictures (collected from their trackers, November 2026). Complaints about a
picture's format or size must not match: another model would refuse it as well."""

TOO_LONG = re.compile(
    "|".join(
        (
            r"context_length_exceeded|exceed_context_size",  # OpenAI, llama.cpp: codes
            r"maximum context length",  # OpenAI, vLLM
            r"exceeds? (the )?(available|maximum|model'?s?)? ?context",  # llama.cpp, SGLang
            r"context (length|size|window)( \w+){0,3} exceeded",  # LM Studio
            r"exceed(s|ed)? (the )?context (limit|length|size|window)",  # Anthropic
            r"longer than the (model'?s? )?context",  # Ollama
            r"context (the )?overflows",  # LM Studio
            r"(prompt|input|request)( \w+)? is too (long|large)",
            r"input token count|input tokens exceed|too many (input )?tokens",  # Gemini, OpenAI
            r"at most \d+ image",  # vLLM: too many pictures for one request
        )
    )
)
"""How servers say that a request is larger than the model holds."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as an endpoint put it."""

    status: int
    """HTTP status, or the code inside the body; 0 where there is neither."""
    words: str
    """Its message: bounded, printable, without secrets. May be empty."""
    text: str
    """All of its texts in lower case, to be searched, never shown."""
    retry_after: float | None = None


class BodyTooLong(Exception):
    """The answer is longer than anything we read."""


def complaint_of(error: openai.APIError, secrets: Collection[str]) -> Complaint:
    """Read what an endpoint sent with an error status, or as an error within a stream."""
    texts = list(_texts(error.body))
    words = _message(error.body)
    if isinstance(error, openai.APIStatusError):
        status, headers = error.status_code, error.response.headers
    else:
        status, headers = _status(error.code), httpx2.Headers()
    if prefixed := re.match(r"(\d{3}): ", words):
        # Open WebUI before 0.7 wraps every upstream error in a 400 whose text begins with the real status
        status, words = int(prefixed[1]), words[prefixed.end() :]
    if re.search(r"<!doctype|<html", words, re.IGNORECASE):
        words = ""
    return Complaint(
        status, scrub(words, secrets), " ".join(texts)[:MATCHED].lower(), retry_after(headers, now=time.time())
    )


def error_of(complaint: Complaint, *, pictures: int, endpoint: str = "") -> DocV2Error:
    """The error that a complaint means, for a request with so many pictures."""
    error = _meaning(complaint, pictures, endpoint)
    error.quoted = complaint.words
    return error


def _meaning(complaint: Complaint, pictures: int, endpoint: str) -> DocV2Error:
    status, text = complaint.status, complaint.text
    refused = status == 0 or 400 <= status < 500 or status == 500
    if pictures and refused and SEES_NOT.search(text):
        return CannotSee(_say("The model takes no pictures", complaint))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (refused and TOO_LONG.search(text)):
        return ContextExceeded(_say("The request is larger than the model accepts", complaint))
    if status in DOWN:
        patience = complaint.retry_after
        if patience is None and status in PATIENCE:
            patience = 1.0
        return UpstreamUnavailable(
            _say(f"The model endpoint is unavailable (HTTP {status})", complaint),
            endpoint_down=True,
            retry_after=patience,
            endpoint=endpoint,
        )
    if status == 0 or status >= 500 or status in PASSING:
        what = f"The model endpoint failed (HTTP {status})" if status else "The model endpoint reported an error"
        return UpstreamUnavailable(
            _say(what, complaint), endpoint_down=False, retry_after=complaint.retry_after, endpoint=endpoint
        )
    if status == 401:
        # its words often quote the key
        return ModelError("The model endpoint refused the credentials that the server has for it (HTTP 401).")
    if status == 403:
        return ModelError(_say("The model endpoint refused access with the server's credentials (HTTP 403)", complaint))
    if 300 <= status < 400:
        return ModelError(f"The model endpoint has moved (HTTP {status}); its configured address is not its own.")
    return ModelError(_say(f"The model endpoint refused the request (HTTP {status})", complaint))


def error_of_transport(cause: BaseException, *, endpoint: str = "") -> UpstreamUnavailable:
    """The error for a connection that could not be made, broke, or brought something that is no answer."""
    down = False
    match cause:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError() | httpx2.UnsupportedProtocol():
            message, down = "The model endpoint cannot be reached.", True
        case httpx2.TimeoutException():
            message = "The model endpoint stopped sending."
        case BodyTooLong():
            message = "The model endpoint's answer is too long to be one."
        case ValueError() | RecursionError():
            message = "The model endpoint sent something that is no answer."
        case _:
            message = "The connection to the model endpoint broke off."
    return UpstreamUnavailable(message, endpoint_down=down, endpoint=endpoint)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that an endpoint asks to wait (`retry-after-ms`, or `Retry-After` as seconds or date), at most an hour.

    A date is compared with the endpoint's own `Date`, so that its clock need not be ours.
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / scale
        except (KeyError, ValueError):
            continue
        if seconds == seconds:  # not NaN
            return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(headers["retry-after"]).timestamp()
    except (KeyError, ValueError):
        return None
    with suppress(KeyError, ValueError):
        now = parsedate_to_datetime(headers["date"]).timestamp()
    return min(max(until - now, 0.0), LONGEST_RETRY_AFTER)


def scrub(words: str, secrets: Collection[str]) -> str:
    """An endpoint's words fit to be shown: one line, bounded, without keys or credentials in addresses."""
    words = words[:MATCHED]
    for secret in secrets:
        words = words.replace(secret, "(hidden)")
    words = re.sub(r"(?i)\b(sk|pk|gsk|hf|key|token)[-_][\w.*-]{6,}|\bbearer\s+\S+|\bAIza[\w-]+", "(hidden)", words)
    words = re.sub(r"\w+://\S+", "(address)", words)
    words = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return words if len(words) <= WORDS else words[: WORDS - 1] + "…"


def _say(what: str, complaint: Complaint) -> str:
    return f"{what}: {complaint.words}" if complaint.words else f"{what}."


def _status(code: str | None) -> int:
    """An error's code where it is an HTTP status; OpenRouter and llama.cpp send such within a stream."""
    return int(code) if code and re.fullmatch(r"[45]\d\d", code) else 0


def _message(body: object, depth: int = 3) -> str:
    """The sentence in an error body, whichever of the customary forms it has."""
    if isinstance(body, str):
        return body
    if isinstance(body, list) and body and depth:
        return _message(body[0], depth - 1)
    if isinstance(body, dict) and depth:
        for name in ("message", "detail", "error", "msg"):
            if found := _message(body.get(name), depth - 1):
                metadata = body.get("metadata")  # OpenRouter keeps the provider's own words there
                inner = metadata.get("raw") if isinstance(metadata, dict) else None
                return f"{found}: {inner}" if isinstance(inner, str) else found
    return ""


def _texts(body: object, depth: int = 5) -> Iterator[str]:
    """Every text in an error body but what it echoes of the request, which may hold anything."""
    if isinstance(body, str):
        yield body[:MATCHED]
    elif isinstance(body, list) and depth:
        for item in body[:20]:
            yield from _texts(item, depth - 1)
    elif isinstance(body, dict) and depth:
        for name, item in list(body.items())[:20]:
            if isinstance(item, int):
                yield f"{name} {item}"
            elif name != "input":
                yield from _texts(item, depth - 1)
