"""One model endpoint: asking it over the OpenAI interface, and the truth about what came back."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpx2Client, Omit, RequestOptions

import docv2
from docv2.errors import CannotSee, ContextExceeded, DocV2Error, UpstreamUnavailable
from docv2.llm.failures import BodyTooLong, Complaint, complaint_of, error_of, error_of_transport, scrub
from docv2.llm.learned import Facts, Learned, form_of, lesson, smaller, stated_context
from docv2.llm.plan import MOST_PICTURE_TOKENS
from docv2.llm.reply import Answer, Reply
from docv2.tasks import JSONObject

log = logging.getLogger(__name__)

LONGEST_BODY = 10 * 1024**2
"""Bytes of an answer in whatever form; a hundred times the longest that a model writes."""
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 600.0
"""Seconds without a byte after which a connection is given up. A model on a slow machine reads a long prompt in silence
for minutes, so this only catches the dead; how long a task may take is its caller's to limit."""
LESSONS = 6
"""Refused parameters that one question adapts to: one each."""
DROPPED = "it may have dropped part of the document."
"""How the note ends that tells of an answer to less than was asked about."""
FEWEST_TOKENS = 1 / 12
"""Tokens a byte of text below which an endpoint cannot have read all of it: text has 3 to 5 bytes a token."""

BROKEN = (openai.APIConnectionError, httpx2.HTTPError, BodyTooLong, OSError, ValueError, RecursionError)
"""What is raised where no answer came, or something that is none."""

Message = dict[str, Any]
"""A chat message of the OpenAI interface."""


class Endpoint:
    """An OpenAI-compatible server. Enter it before asking; leaving closes its connections."""

    def __init__(
        self,
        base_url: str,
        key: str = "",
        *,
        name: str = "",
        learned: Learned | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        """`name` is what logs and notes call it: by default its address without credentials."""
        parts = urlsplit(base_url)
        host = parts.netloc.rpartition("@")[2]
        self.base_url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self.name = name or self.base_url
        self.learned = learned or Learned()
        self._secrets = tuple(s for s in (key, unquote(parts.password or "")) if s)
        authorization: str | Omit = f"Bearer {key}" if key else Omit()
        if parts.username:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(user.encode()).decode()
        self._headers: dict[str, Any] = {
            "Authorization": authorization,
            "OpenAI-Organization": Omit(),  # this and the next the SDK would take from the environment
            "OpenAI-Project": Omit(),
            "User-Agent": f"docv2/{docv2.__version__}",
            "Accept-Encoding": "identity",
        }
        self._timeout = httpx2.Timeout(silent_seconds, connect=connect_seconds, pool=None)
        self._client: AsyncOpenAI | None = None

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(self._open)  # it reads certificates
        return self

    def _open(self) -> AsyncOpenAI:
        # HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are httpx2's to read, as long as the transport is its own.
        transport = DefaultAsyncHttpx2Client(
            timeout=self._timeout, follow_redirects=False, event_hooks={"response": [_bound]}
        )
        return AsyncOpenAI(
            base_url=self.base_url,
            api_key="none",  # given, so that the SDK takes none from the environment; the header is what is sent
            admin_api_key="none",
            http_client=transport,
            max_retries=0,
        )

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def ask(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        response_format: JSONObject | None = None,
        on_progress: Callable[[int], None] | None = None,
        task_id: str = "",
    ) -> Reply:
        """Ask a model and stream its answer; `on_progress` gets the number of characters so far.

        `response_format` is a wish: a model that does not take it is asked without. Cancelling closes the connection.
        Raises UpstreamUnavailable where another try may help, else ModelError, CannotSee or ContextExceeded; what these
        teach of the model is kept.
        """
        known = facts = self.learned.of(model)
        form = form_of(response_format, facts)
        size = _Size.of(messages, self.learned.bytes_per_token(model))
        for lessons_left in range(LESSONS, -1, -1):
            payload = _payload(model, messages, temperature, max_tokens, form, facts)
            try:
                reply = await self._attempt(payload, task_id, on_progress)
            except BROKEN as error:
                raise self._broken(error) from None
            except openai.APIError as error:
                complaint = complaint_of(error, self._secrets)
                taught = lesson(complaint, facts, form) if lessons_left else None
                if taught is None:
                    raise await self._refused(model, complaint, size, max_tokens) from None
                facts, form = taught
            except UpstreamUnavailable as error:
                error.endpoint = self.name
                raise
            else:
                if facts != known:  # kept only now that it has helped
                    await self.learned.keep(model, facts)
                if not size.pictures:
                    await self.learned.counted(model, size.text_bytes, reply.prompt_tokens)
                return replace(reply, notes=facts.notes(max_tokens) + size.notes(reply))
        raise AssertionError("the last attempt returns or raises")

    async def get(self, path: str, body: object = None) -> dict[str, Any] | list[Any]:
        """What the endpoint says at a path below its address, or at a whole address on it, as decoded JSON.

        With a body it is posted. Raises like `ask`.
        """
        client = self._opened()
        options: RequestOptions = {"headers": self._headers}
        try:
            if body is None:
                found = await client.get(path, cast_to=object, options=options)
            else:
                found = await client.post(path, cast_to=object, body=body, options=options)
        except BROKEN as error:
            raise self._broken(error) from None
        except openai.APIError as error:
            raise error_of(complaint_of(error, self._secrets), pictures=0, endpoint=self.name) from None
        if not isinstance(found, dict | list):  # a web page, say
            raise self._broken(ValueError())
        return found

    async def _attempt(self, payload: dict[str, Any], task_id: str, on_progress: Callable[[int], None] | None) -> Reply:
        content = await asyncio.to_thread(_encoded, payload)
        # `object` keeps the SDK from building its models of each chunk: they validate nothing and take 68 µs, not 2.
        stream = await self._opened().post(
            "/chat/completions",
            cast_to=object,
            content=content,
            options={"headers": {**self._headers, "X-Client-Request-Id": task_id or Omit()}},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        answer = Answer(on_progress)
        async with stream:
            response = stream.response
            if "text/event-stream" in response.headers.get("content-type", "").lower():
                async for chunk in stream:
                    answer.add(chunk)
                return answer.finish()
            # Some servers answer a stream request with plain JSON, and proxies with a web page.
            body = json.loads(await response.aread())
            if isinstance(body, dict) and body.get("error"):
                raise openai.APIError("", response.request, body=body["error"])
            answer.add(body)
            return answer.finish(complete=True)

    async def _refused(self, model: str, complaint: Complaint, size: _Size, max_tokens: int) -> DocV2Error:
        """The error for a complaint, having learned what it says about the model."""
        error = error_of(complaint, pictures=size.pictures, endpoint=self.name)
        facts = self.learned.of(model)
        if isinstance(error, CannotSee):
            await self.learned.keep(model, replace(facts, cannot_see=True))
        elif isinstance(error, ContextExceeded):
            tokens = size.tokens + max_tokens
            stated = stated_context(complaint)
            holds_it = stated and stated >= tokens and not size.pictures
            if holds_it and await self.learned.denser(model, size.bytes_per_token):
                return error  # the text makes more tokens than we thought
            mostly_pictures = size.mostly_pictures(in_bytes=complaint.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            taught = smaller(facts, complaint, tokens=tokens, pictures=size.pictures, mostly_pictures=mostly_pictures)
            await self.learned.keep(model, taught)
        return error

    def _broken(self, error: BaseException) -> UpstreamUnavailable:
        """The error for a failed connection. Why it failed is for the log: it may name hosts."""
        cause = error.__cause__ or error
        # what is no answer is not quoted: it may hold one
        words = "" if isinstance(cause, ValueError) else scrub(str(cause), self._secrets)
        log.warning("model endpoint %s: %s %s", self.name, type(cause).__name__, words)
        return error_of_transport(cause, endpoint=self.name)

    def _opened(self) -> AsyncOpenAI:
        assert self._client is not None, "enter the endpoint before asking it"
        return self._client


@dataclass(frozen=True, slots=True)
class _Size:
    """How much a request holds."""

    text_bytes: int
    pictures: int
    picture_bytes: int
    bytes_per_token: float

    @classmethod
    def of(cls, messages: Sequence[Message], bytes_per_token: float) -> _Size:
        text = pictures = encoded = 0
        for message in messages:
            content = message["content"]
            parts: list[Message] = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] == "text":
                    text += len(part["text"].encode("utf-8", "replace"))
                else:
                    pictures += 1
                    encoded += len(part["image_url"]["url"])
        return cls(text, pictures, encoded, bytes_per_token)

    @property
    def tokens(self) -> int:
        """About how many the text makes; more rather than fewer."""
        return int(self.text_bytes / self.bytes_per_token)

    def mostly_pictures(self, *, in_bytes: bool) -> bool:
        """Whether pictures are most of it: of its bytes, as servers in front of a model count, or of its tokens."""
        if in_bytes:
            return self.picture_bytes > self.text_bytes
        return self.pictures * MOST_PICTURE_TOKENS > self.tokens

    def notes(self, reply: Reply) -> tuple[str, ...]:
        """A warning where the endpoint counts far fewer tokens than it was sent.

        Ollama, for one, cuts a prompt that is longer than its context and answers with status 200 all the same.
        """
        if not 0 < reply.prompt_tokens < self.text_bytes * FEWEST_TOKENS - 500:
            return ()
        return (
            f"The model endpoint says that it read {reply.prompt_tokens} tokens of about "
            f"{self.text_bytes // 4}: {DROPPED}",
        )


class _Bounded(httpx2.AsyncByteStream):
    """A response body that ends in BodyTooLong where it would not end."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for piece in self._stream:
            length += len(piece)
            if length > LONGEST_BODY:
                raise BodyTooLong
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Limit a response before anybody reads it, whatever its status."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ValueError("compressed, although it was asked not to be")  # a few kB may unpack to gigabytes
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


def _encoded(payload: dict[str, Any]) -> bytes:
    """JSON; not on the loop, as megabytes of pictures take tens of milliseconds.

    Value by value: `dumps` keeps the interpreter, and with it the event loop, from anything else until all is done. And
    one at a time: each thread more that wants the interpreter makes the loop wait longer for its turn.
    """
    with _ENCODING:
        values = json.JSONEncoder(ensure_ascii=False).iterencode(payload)
        return b"".join(value.encode("utf-8", "replace") for value in values)


_ENCODING = threading.Lock()


def _payload(
    model: str,
    messages: Sequence[Message],
    temperature: float,
    max_tokens: int,
    form: JSONObject | None,
    facts: Facts,
) -> dict[str, Any]:
    payload: dict[str, Any] = {"model": model, "messages": list(messages), "stream": True}
    if form is not None:
        payload["response_format"] = form
    if not facts.no_usage:
        payload["stream_options"] = {"include_usage": True}
    if not facts.no_temperature:
        payload["temperature"] = temperature
    name = "max_completion_tokens" if facts.max_completion_tokens else "max_tokens"
    payload[name] = min(max_tokens, facts.max_output or max_tokens)
    return payload
