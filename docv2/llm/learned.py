"""What only experience taught of a model.

Its refusals: the parameters it does not take, pictures it cannot see, how much it holds. Its counts: how many bytes of
text make a token.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

from docv2.errors import DocV2Error
from docv2.llm.failures import Complaint
from docv2.llm.plan import BYTES_PER_TOKEN, MOST_PICTURE_TOKENS
from docv2.tasks import JSONObject

log = logging.getLogger(__name__)

NOTE = "model"
FORGOTTEN_AFTER = 24 * 3600.0
"""Seconds until a lesson is doubted again: a server may have been changed meanwhile, and a wrong lesson must heal."""
SMALLEST_CONTEXT = 1_000
"""Tokens; no refusal makes us believe in less."""

TOKENS_NOTE = "tokens"
FEWEST_BYTES, MOST_BYTES = 1.0, 4.5
"""Bytes a token that are believed: symbols have about one, English prose in the newest vocabularies 4.6."""
PLAUSIBLE_BYTES = 8.0
"""More than that is a text that the endpoint cut, or no count at all."""
COUNTED_FROM = 2_000
"""Bytes of a request whose count tells something: in a short one the frame is most of it."""
HEADROOM = 0.95
"""Of what was counted is used: the next text may be denser."""
NEWS = 0.03
"""Changes by less are not written down."""

UNSUPPORTED = re.compile(
    r"not (be )?(supported|permitted|allowed|recognized)|un(supported|known|recognized|expected)|extra|only the default"
)
MOST_OUTPUT = re.compile(
    r"(?:supports at most|less than or equal to|maximum (?:value )?(?:of|is)|<=|max_tokens is \[1,) ?`?(\d{2,7})"
)
"""OpenAI, Groq, others, DeepSeek."""

ABOUT_FORM = re.compile(r"response_format|json_schema|json_object|structured.?output|guided|grammar")
ABOUT_SCHEMA = re.compile(
    r"invalid (json )?schema|invalid_json_schema|schema (is|was) (invalid|not valid|malformed|too)"
)
"""Words about a schema that this model does not take, as strict servers have them: another one may do."""

STATED = re.compile(r"(?:context (?:length|size|window)(?: is| of)?(?: only)?|configured limit of|n_ctx) \(?(\d{3,8})")
"""OpenAI and vLLM, LM Studio, llama.cpp."""


class Notes(Protocol):
    """The part of the store that keeps small facts."""

    async def save_note(self, kind: str, name: str, value: JSONObject) -> None:
        """Keep a fact."""

    async def notes(self, kind: str) -> dict[str, JSONObject]:
        """All facts of a kind."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one model by experience. Everything as usual until a refusal says otherwise."""

    cannot_see: bool = False
    context: int | None = None
    """Tokens that it certainly does not exceed."""
    pictures: int | None = None
    """Pictures that it takes in one call."""
    no_temperature: bool = False
    no_usage: bool = False
    """It does not take `stream_options`."""
    max_completion_tokens: bool = False
    """It wants that name instead of `max_tokens`."""
    max_output: int | None = None
    """The largest `max_tokens` it takes."""
    no_json_schema: bool = False
    no_json_object: bool = False
    """Forms of `response_format` that it does not take."""

    def notes(self, max_tokens: int) -> tuple[str, ...]:
        """What whoever reads the answer must know of how the model was asked."""
        said = []
        if self.no_temperature:
            said.append("The model takes no temperature; its own was used.")
        if self.max_output is not None and self.max_output < max_tokens:
            said.append(f"The model writes at most {self.max_output} tokens; {max_tokens} were asked for.")
        return tuple(said)


def lesson(
    complaint: Complaint, facts: Facts, form: JSONObject | None = None
) -> tuple[Facts, JSONObject | None] | None:
    """How to ask again after a parameter was refused, `response_format` (here `form`) included.

    None where the complaint is about something else.
    """
    text = complaint.text
    if form is not None and 400 <= complaint.status <= 501 and ABOUT_FORM.search(text):
        if form["type"] == "json_object":
            return replace(facts, no_json_object=True), None
        taught = facts if ABOUT_SCHEMA.search(text) else replace(facts, no_json_schema=True)
        return taught, form_of({"type": "json_object"}, facts)
    if complaint.status not in (400, 422):
        return None
    if not facts.no_usage and re.search(r"stream_options|include_usage", text):
        return replace(facts, no_usage=True), form
    if re.search(r"max_tokens|max_completion_tokens|completion tokens", text):
        most = MOST_OUTPUT.search(text)
        if most and facts.max_output is None:
            return replace(facts, max_output=int(most[1])), form
        if UNSUPPORTED.search(text):
            return replace(facts, max_completion_tokens=not facts.max_completion_tokens), form
    if not facts.no_temperature and "temperature" in text and UNSUPPORTED.search(text):
        return replace(facts, no_temperature=True), form
    return None


def form_of(wanted: JSONObject | None, facts: Facts) -> JSONObject | None:
    """The `response_format` to ask with: as wanted, else that of any JSON, else none."""
    if wanted is None or (wanted["type"] == "json_schema" and not facts.no_json_schema):
        return wanted
    return None if facts.no_json_object else {"type": "json_object"}


def stated_context(complaint: Complaint) -> int | None:
    """The context in tokens that a refusal names."""
    said = STATED.search(complaint.text)
    return int(said[1]) if said else None


def smaller(facts: Facts, complaint: Complaint, *, tokens: int, pictures: int, mostly_pictures: bool) -> Facts:
    """Facts after a request of about so many tokens and pictures was too large for the model.

    The same facts where one picture is what is too large: less text would not help, and others are not meant.
    """
    if most := re.search(r"at most (\d{1,4}) image", complaint.text):
        return replace(facts, pictures=max(1, min(int(most[1]), pictures - 1)))
    stated = stated_context(complaint)
    if pictures > 1:
        return replace(facts, pictures=pictures // 2, context=stated or facts.context)
    if mostly_pictures and not stated:
        return facts
    tokens += pictures * MOST_PICTURE_TOKENS
    # where we believed that it fits, our estimate is too low for this text, and the next plan rests on it as well
    context = stated if stated and stated < tokens else tokens * 3 // 4
    context = min(context, facts.context or context)
    return replace(facts, context=max(context, SMALLEST_CONTEXT))


class Learned:
    """Facts by model, kept in the store."""

    def __init__(
        self,
        store: Notes | None = None,
        *,
        clock: Callable[[], float] = time.time,
        said: Callable[[str], list[Any]] = lambda _: [],
    ) -> None:
        """`said` gives what the administrator says a model can do. What was learned before he said it is void."""
        self._store = store
        self._clock = clock
        self._said = said
        self._facts: dict[str, tuple[Facts, float, list[Any]]] = {}
        self._bytes_per_token: dict[str, float] = {}
        self._written: dict[str, float] = {}

    async def load(self) -> None:
        """Take up what earlier runs learned."""
        if self._store is None:
            return
        known = {field.name for field in fields(Facts)}
        for model, value in (await self._store.notes(NOTE)).items():
            facts: dict[str, Any] = {name: item for name, item in value.items() if name in known}
            self._facts[model] = (Facts(**facts), float(value.get("learned_at", 0.0)), value.get("said", []))
        for model, value in (await self._store.notes(TOKENS_NOTE)).items():
            self._bytes_per_token[model] = self._written[model] = float(value["bytes_per_token"])

    def of(self, model: str) -> Facts:
        """What holds for a model now."""
        facts, learned_at, said = self._facts.get(model, (Facts(), 0.0, []))
        holds = self._clock() - learned_at < FORGOTTEN_AFTER and said == self._said(model)
        return facts if holds else Facts()

    async def keep(self, model: str, facts: Facts) -> None:
        """Remember what a model has just taught."""
        if facts == self.of(model):
            return
        now, said = self._clock(), self._said(model)
        self._facts[model] = (facts, now, said)
        await self._save(NOTE, model, {**asdict(facts), "learned_at": now, "said": said})

    # -- tokens -------------------------------------------------------------------------------------------------------
    def bytes_per_token(self, model: str) -> float:
        """Bytes of UTF-8 text that make a token of this model."""
        return self._bytes_per_token.get(model, BYTES_PER_TOKEN)

    async def counted(self, model: str, text_bytes: int, tokens: int) -> None:
        """Take up how many tokens an endpoint counted in a text: at once where they are more, slowly where fewer."""
        if text_bytes < COUNTED_FROM or not FEWEST_BYTES <= text_bytes / max(tokens, 1) <= PLAUSIBLE_BYTES:
            return
        known, told = self.bytes_per_token(model), text_bytes / tokens * HEADROOM
        await self._believe(model, told if told < known else known + (told - known) / 5)

    async def denser(self, model: str, than: float) -> bool:
        """Believe in a quarter more tokens than a text was taken for that did not fit; False where that cannot be.

        `than` is what was believed when the text was sent: calls refused side by side teach one lesson.
        """
        await self._believe(model, min(self.bytes_per_token(model), than * 3 / 4))
        return self.bytes_per_token(model) < than

    async def _believe(self, model: str, value: float) -> None:
        value = min(max(value, FEWEST_BYTES), MOST_BYTES)
        self._bytes_per_token[model] = value
        if abs(value / self._written.get(model, BYTES_PER_TOKEN) - 1) > NEWS:
            self._written[model] = value
            await self._save(TOKENS_NOTE, model, {"bytes_per_token": round(value, 3)})

    async def _save(self, kind: str, model: str, value: JSONObject) -> None:
        if self._store is None:
            return
        try:
            await self._store.save_note(kind, model, value)
        except DocV2Error as error:  # the answer that taught it is worth more
            log.warning("what %s taught is not kept: %s", model, error)
