"""What only a model's refusals taught: the parameters it does not take, pictures it cannot see, how much it holds."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

from docv2.errors import DocV2Error
from docv2.llm.failures import Complaint
from docv2.tasks import JSONObject

log = logging.getLogger(__name__)

NOTE = "model"
FORGOTTEN_AFTER = 24 * 3600.0
"""Seconds until a lesson is doubted again: a server may have been changed meanwhile, and a wrong lesson must heal."""
A_PICTURE = 3_000
"""Tokens, about the most that a page takes (see prompt.py)."""
SMALLEST_CONTEXT = 1_000
"""Tokens; no refusal makes us believe in less."""

UNSUPPORTED = re.compile(
    r"not (be )?(supported|permitted|allowed|recognized)|un(supported|known|recognized|expected)|extra|only the default"
)
MOST_OUTPUT = re.compile(
    r"(?:supports at most|less than or equal to|maximum (?:value )?(?:of|is)|<=|max_tokens is \[1,) ?`?(\d{2,7})"
)
"""OpenAI, Groq, others, DeepSeek."""

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

    def notes(self, max_tokens: int) -> tuple[str, ...]:
        """What whoever reads the answer must know of how the model was asked."""
        said = []
        if self.no_temperature:
            said.append("The model takes no temperature; its own was used.")
        if self.max_output is not None and self.max_output < max_tokens:
            said.append(f"The model writes at most {self.max_output} tokens; {max_tokens} were asked for.")
        return tuple(said)


def lesson(complaint: Complaint, facts: Facts) -> Facts | None:
    """How to ask again after a parameter was refused; None where the complaint is about something else."""
    text = complaint.text
    if complaint.status not in (400, 422):
        return None
    if not facts.no_usage and re.search(r"stream_options|include_usage", text):
        return replace(facts, no_usage=True)
    if re.search(r"max_tokens|max_completion_tokens|completion tokens", text):
        most = MOST_OUTPUT.search(text)
        if most and facts.max_output is None:
            return replace(facts, max_output=int(most[1]))
        if UNSUPPORTED.search(text):
            return replace(facts, max_completion_tokens=not facts.max_completion_tokens)
    if not facts.no_temperature and "temperature" in text and UNSUPPORTED.search(text):
        return replace(facts, no_temperature=True)
    return None


def smaller(facts: Facts, complaint: Complaint, *, tokens: int, pictures: int) -> Facts:
    """Facts after a request of about so many tokens and pictures was too large for the model."""
    if most := re.search(r"at most (\d{1,4}) image", complaint.text):
        return replace(facts, pictures=max(1, min(int(most[1]), pictures - 1)))
    said = STATED.search(complaint.text)
    stated = int(said[1]) if said else None
    if pictures > 1:
        return replace(facts, pictures=pictures // 2, context=stated or facts.context)
    tokens += pictures * A_PICTURE
    # where we believed that it fits, our estimate is too low for this text, and the next plan rests on it as well
    context = stated if stated and stated < tokens else tokens * 3 // 4
    context = min(context, facts.context or context)
    return replace(facts, context=max(context, SMALLEST_CONTEXT))


class Learned:
    """Facts by model, kept in the store."""

    def __init__(self, store: Notes | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._facts: dict[str, tuple[Facts, float]] = {}

    async def load(self) -> None:
        """Take up what earlier runs learned."""
        if self._store is None:
            return
        known = {field.name for field in fields(Facts)}
        for model, value in (await self._store.notes(NOTE)).items():
            facts: dict[str, Any] = {name: item for name, item in value.items() if name in known}
            self._facts[model] = (Facts(**facts), float(value.get("learned_at", 0.0)))

    def of(self, model: str) -> Facts:
        """What holds for a model now."""
        facts, learned_at = self._facts.get(model, (Facts(), 0.0))
        return facts if self._clock() - learned_at < FORGOTTEN_AFTER else Facts()

    async def keep(self, model: str, facts: Facts) -> None:
        """Remember what a model has just taught."""
        if facts == self.of(model):
            return
        now = self._clock()
        self._facts[model] = (facts, now)
        if self._store is not None:
            try:
                await self._store.save_note(NOTE, model, {**asdict(facts), "learned_at": now})
            except DocV2Error as error:  # the answer that taught it is worth more
                log.warning("what %s taught is not kept: %s", model, error)
