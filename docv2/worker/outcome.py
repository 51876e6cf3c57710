"""What a task's owner is told in the end: the answer, what it stands on, and what is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from docv2.documents import Page, PageRecord, PageSource
from docv2.llm.client import DROPPED
from docv2.tasks import Part, Result, Task

BLIND = "no model that can see was available"


def result(
    task: Task,
    final: Part,
    used: Sequence[Part],
    answered: Sequence[Part],
    pages: Sequence[Page],
    ledger: Sequence[PageRecord],
) -> Result:
    """The outcome of a task.

    `used`: the answers that went into the final one; `answered`: all that were paid for; `pages`: as they were allowed
    to be used.
    """
    return Result(
        content=final.content,
        model_used=final.model,
        finish_reason=final.finish_reason,
        warnings=tuple(_warnings(final, used, pages, ledger)),
        temperature=task.temperature,
        max_tokens=task.max_tokens,
        prompt_tokens=sum(part.prompt_tokens for part in answered),
        completion_tokens=sum(part.completion_tokens for part in answered),
        pages=dict(Counter((record.used or PageSource.NONE).value for record in ledger)),
    )


def is_whole(answered: Sequence[Part], ledger: Sequence[PageRecord]) -> bool:
    """Whether an answer lacks nothing: every page was used, and no call was cut short or may have lost a part."""
    return all(record.used not in (None, PageSource.NONE) for record in ledger) and not any(
        part.finish_reason == "length" or any(note.endswith(DROPPED) for note in part.notes) for part in answered
    )


def _warnings(final: Part, used: Sequence[Part], pages: Sequence[Page], ledger: Sequence[PageRecord]) -> Iterator[str]:
    missing: dict[str, list[int]] = defaultdict(list)
    unseen: dict[str, list[int]] = defaultdict(list)
    allowed = {page.number: page for page in pages}
    for record in ledger:
        page = allowed[record.number]
        if record.used in (None, PageSource.NONE):
            missing[page.reason if page.source is PageSource.NONE else BLIND].append(record.number)
        elif record.used is not record.source:
            unseen[page.reason if record.used is page.source else BLIND].append(record.number)
    for reason, numbers in missing.items():
        yield f"{page_list(numbers)} could not be used: {reason}"
    for reason, numbers in unseen.items():
        yield f"{page_list(numbers)} went in as text alone, without what is to be seen there: {reason}"
    for part in used:
        if part.finish_reason == "length":
            which = "The answer" if part is final else f"The answer for pages {part.first_page} to {part.last_page}"
            yield f"{which} was cut short at the limit of tokens (finish_reason: length)"
    yield from dict.fromkeys(note for part in used for note in part.notes)


def page_list(numbers: Sequence[int]) -> str:
    """Page numbers as a person writes them: `Page 3`, `Pages 1 to 3, 7`."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    shown = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
    return f"Page {shown}" if len(numbers) == 1 else f"Pages {shown}"
