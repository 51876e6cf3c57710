"""What the tests put into a store."""

from __future__ import annotations

import uuid
from typing import Any

from docv2.documents import Page, PageSource
from docv2.store.base import ApiKey, Store, User
from docv2.tasks import NewTask, Part, Result, Task

RESULT = Result(
    content='Grüße, 世界 🗺 "quoted"\n\x01',
    model_used="other-model",
    finish_reason="length",
    warnings=("page 3 could not be read", "cut short"),
    temperature=0.25,
    max_tokens=77,
    prompt_tokens=1234,
    completion_tokens=56,
    pages={"text": 3, "none": 1},
)


def new_task(**changes: Any) -> NewTask:
    """A task that nobody has seen before."""
    values = {
        "task_id": str(uuid.uuid4()),
        "user_id": "user-1",
        "filename": "Übersicht 'Q3'.pdf",
        "media_type": "application/pdf",
        "size": 1000,
        "sha256": "0" * 64,
        "prompt": 'What is the total?\n"Σ"',
        "model": "model-a",
        "temperature": 0.7,
        "max_tokens": 8000,
    }
    return NewTask(**{**values, **changes})


async def enqueue(store: Store, **changes: Any) -> Task:
    """A task that waits."""
    return await store.enqueue(new_task(**changes))


async def running(store: Store, owner: str = "server-1", **changes: Any) -> Task:
    """A task that runs, in a store where no other waits."""
    task = await enqueue(store, **changes)
    claimed = await store.claim(owner)
    assert claimed is not None
    assert claimed.task_id == task.task_id
    return claimed


async def current(store: Store, task: Task) -> Task:
    """The task as it stands now."""
    found = await store.get(task.task_id)
    assert found is not None
    return found


def page(number: int, **changes: Any) -> Page:
    """A page with text."""
    return Page(**{"number": number, "source": PageSource.TEXT, "reason": "has a text layer", "chars": 900, **changes})


def part(number: int, level: int = 0, **changes: Any) -> Part:
    """An answer to one part."""
    values = {
        "level": level,
        "scope": f"{number + 1}-{number + 1}",
        "first_page": number + 1,
        "last_page": number + 1,
        "model": "model-a",
        "content": f"Antwort № {number}",
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "notes": ("temperature was dropped",),
    }
    return Part(**{**values, **changes})


def user(**changes: Any) -> User:
    """An active user."""
    user_id = str(uuid.uuid4())
    values = {"email": f"{user_id}@example.org", "name": "A. Person", "role": "user", "active": True, "created_at": 1e9}
    return User(**{"user_id": user_id, **values, **changes})


def key(owner: User, **changes: Any) -> ApiKey:
    """An unrevoked key of a user."""
    values = {
        "key_id": str(uuid.uuid4()),
        "user_id": owner.user_id,
        "name": "laptop",
        "prefix": "sk-abcd",
        "created_at": 1e9,
        "last_used_at": None,
        "revoked_at": None,
    }
    return ApiKey(**{**values, **changes})
