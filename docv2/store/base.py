"""What docv2 needs of a database. Every implementation passes tests/conformance, whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from docv2.documents import Page, PageRecord, PageUse
from docv2.tasks import Backlog, Claim, JSONObject, NewTask, Part, Result, Stage, Sums, Task, TaskStatus

BLOCKS = (128, 1024)
"""Places that make a block, a narrow and a wide one: sums of waiting work are kept for them."""


@dataclass(frozen=True, slots=True)
class User:
    """Someone who may call docv2."""

    user_id: str
    email: str
    name: str
    role: str
    """`user` or `admin`."""
    active: bool
    created_at: float

    @property
    def is_admin(self) -> bool:
        """Whether nothing is kept from them."""
        return self.role == "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as listed: never the key itself."""

    key_id: str
    user_id: str
    name: str
    prefix: str
    """The first characters of the key, enough to tell keys apart."""
    created_at: float
    last_used_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sign-in and a session are checked against."""

    user: User
    password: str | None
    """Its hash; None where none was set."""
    session_stamp: str
    """Changes, and with it every session ends, when the password does or the account is switched off or on."""


@dataclass(frozen=True, slots=True)
class Request:
    """What tells a request that is sent again from a new one."""

    key: str
    """The caller's name for it."""
    sha256: str
    """Of all that was asked: under the same key it must be the same."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found of the run before it."""

    requeued: tuple[str, ...]
    """Tasks that were running and are back in their place."""
    given_up: tuple[str, ...]
    """Tasks that the server died on too often; failed now."""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many tasks wait and how many run."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """One state of what administrators set at run time."""

    version: int
    """1 is the first; 0 stands for nothing set yet."""
    changed_at: float
    changed_by: str
    """The e-mail of whoever did it."""
    changes: JSONObject
    """What was asked to change."""
    overrides: JSONObject
    """All that is set at run time, and so goes over the environment and the defaults."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Tasks that were removed together, and what went with them."""

    task_ids: tuple[str, ...]
    unfinished: int
    """Of them, those that waited or ran."""
    pages: int
    parts: int
    idempotency_keys: int
    cached_answers: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user may send."""

    windows: tuple[tuple[float, int], ...]
    """Spans in seconds, and the most documents accepted in any span of so long."""
    waiting_of_user: int
    """The most tasks of the user that may wait."""
    waiting: int
    """The most tasks of all users that may wait."""


class Store(Protocol):
    """The durable queue and the accounts.

    Every write is on disk (fsync) when its coroutine returns, but for those that promise nothing to anyone: claim,
    report, count_call, measure and key_used outlive the process at once, and a power cut from the next other write on,
    at which they are flushed before it. Writes under a Claim raise ClaimLost and change nothing unless the task still
    runs under that claim. A database that cannot be written or read now raises Unavailable, a full disk DiskFull; but a
    worker's writes (claim, those under a Claim, measure, save_note) are tried until they are done or the store closes,
    for there is nothing better to do with a result than to keep it.
    """

    async def close(self) -> None:
        """Finish what was handed in and let go of the database."""

    # -- the queue ----------------------------------------------------------------------------------------------------
    async def enqueue(self, new: NewTask, request: Request | None = None, limits: Limits | None = None) -> Task:
        """Accept a task at the tail of the queue.

        Where this user's same `request` was accepted before, nothing is added and its task is the answer: the id tells.
        Conflict where another request was accepted under that key. Remembered as long as the task is there.
        RateLimited where it would be more than `limits`: decided in the moment of acceptance, so that of many who come
        at once no more get in. Accepted documents count for a day, whatever becomes of their tasks.
        """
        ...

    async def check_limits(self, user_id: str, limits: Limits) -> None:
        """RateLimited where a document of this user would be more than `limits` now."""

    async def submitted(self, user_id: str, limits: Limits) -> list[tuple[int, float]]:
        """For each window how many documents were accepted in it, and when the oldest of them was (Unix seconds)."""
        ...

    async def accepted(self, user_id: str, request: Request) -> Task | None:
        """The task that this request became, if it did; Conflict as for enqueue."""
        ...

    async def tasks_of(
        self, user_id: str, *, before: int | None, limit: int, status: TaskStatus | None = None
    ) -> list[tuple[Task, int | None]]:
        """A user's tasks, newest first and without their results, with each its position while it waits.

        Only those in places below `before`, of one `status` where it is given, and at most `limit`.
        """
        ...

    async def get(self, task_id: str) -> Task | None:
        """The task as it stands, or None. Cheap enough for every status poll.

        Of what other processes wrote it knows by the last time that `writes_of_others` was asked, or 2 s at most.
        """
        ...

    async def claim(self, owner: str, *, blocked_models: Collection[str] = ()) -> Task | None:
        """Take the first waiting task that may run now; None where there is none.

        Leaves out tasks of `blocked_models` and those whose `not_before` lies ahead. Counts the attempt.
        """
        ...

    async def next_retry(self) -> float | None:
        """When the next backed-off task may run (Unix seconds), or None where none is backed off."""
        ...

    async def release(self, claim: Claim, *, not_before: float = 0.0, upstream_failed: bool = False) -> None:
        """Put a running task back in its place, keeping its finished steps and adding to its `worked_seconds`.

        `upstream_failed` counts one more failure of the endpoint on this task.
        """
        ...

    async def report(self, claim: Claim, *, stage: Stage, progress: float) -> None:
        """Say how far a running task is. A `progress` below what was said before is ignored."""
        ...

    async def save_pages(
        self, claim: Claim, pages: Sequence[Page], *, progress: float, pages_total: int | None
    ) -> None:
        """Keep pages as read, one finished step: `crashes` starts again at 0."""
        ...

    async def count_call(self, claim: Claim, pages: Sequence[int]) -> None:
        """Note in the ledger that a model is about to be asked about these pages."""
        ...

    async def save_part(
        self, claim: Claim, part: Part, *, stage: Stage, progress: float, uses: Sequence[PageUse] = ()
    ) -> None:
        """Keep the answer to one part, one finished step: `crashes` and `upstream_failures` start again at 0.

        `uses` says for the ledger what the answer was given of each page.
        """
        ...

    async def pages(self, task_id: str) -> list[Page]:
        """The pages read so far, in order."""
        ...

    async def parts(self, task_id: str) -> list[Part]:
        """The parts answered so far, by level and where they begin."""
        ...

    async def ledger(self, task_id: str, *, after: int = 0, limit: int = -1) -> list[PageRecord]:
        """What became of the pages behind page `after`, in order; at most `limit` of them, all where that is -1."""
        ...

    async def page_counts(self, task_id: str) -> dict[str, int]:
        """How many pages were used as what; of those that no model was asked about yet, as what they were read."""
        ...

    async def complete(self, claim: Claim, result: Result, *, key: str = "") -> None:
        """End a running task with its answer, which may be given again to whoever asks under the same `key`."""
        ...

    async def complete_again(self, claim: Claim, key: str, *, since: float) -> bool:
        """End a running task with the answer that was kept under a key, if one was after `since` (Unix seconds).

        False, and nothing done, where there is none. What became of the pages is copied with it.
        """
        ...

    async def clear_answers(self) -> int:
        """Give no answer again that was kept until now; answers how many. The tasks that hold them stay."""
        ...

    async def fail(self, claim: Claim, error: str, error_type: str) -> None:
        """End a running task with an error."""
        ...

    async def cancel(self, task_id: str, *, error: str, error_type: str) -> Task | None:
        """End a waiting or running task as failed, whoever owns it.

        Answers the task as it was just before: its status tells what this call ended; None where there is none.
        """
        ...

    async def all_tasks(
        self, *, user_id: str | None, before: int | None, limit: int, status: TaskStatus | None = None
    ) -> list[tuple[Task, int | None]]:
        """Everyone's tasks, or one user's, as `tasks_of` lists one's own."""
        ...

    async def retry(self, task_id: str) -> Task | None:
        """Put a failed task at the tail of the queue, with its pages and parts; None where none of this id failed."""
        ...

    async def recover(self, *, crash_limit: int, error: str, error_type: str) -> Recovery:
        """At start, with no other server alive: return running tasks to their place and count their crash.

        A task whose count reaches `crash_limit` fails with `error`.
        """
        ...

    async def position(self, place: int) -> int:
        """Rank among the waiting tasks: 1 is next; known as in `get`. At most 10 ms at 100,000 waiting."""
        ...

    @property
    def queue_generation(self) -> int | None:
        """Another one after each change to what stands before any task in the queue, known as in `get`.

        None where nobody has asked for `writes_of_others` lately.
        """
        ...

    async def tail(self) -> int:
        """The place of the next task that is accepted, if nothing else is meanwhile."""
        ...

    async def backlog(self, before: int | None = None, *, since: int = 0) -> list[Backlog]:
        """Waiting work before a place (or all of it), summed by model and type, from where a block of `before` begins.

        At most 10 ms at 100,000 waiting, and 0.1 ms within a block.
        """
        ...

    async def depth(self) -> QueueDepth:
        """Counts of waiting and running tasks."""
        ...

    async def ended_since(self, when: float) -> tuple[int, int]:
        """How many tasks ended since a time (Unix seconds), and how many of those failed without being cancelled."""
        ...

    async def expire(self, ended_before: float) -> list[str]:
        """Remove tasks that ended before a time (Unix seconds); answers their ids."""
        ...

    async def known(self, task_ids: Collection[str]) -> dict[str, Task]:
        """Those of the given tasks that exist, to tell orphaned files from live ones."""
        ...

    async def writes_of_others(self) -> int:
        """A number that is another one after each write of another process. Cheap enough for several times a second."""
        ...

    # -- removal ------------------------------------------------------------------------------------------------------
    async def remove_tasks(self, user_id: str) -> Removed:
        """Remove some tasks of a user, of whatever status, so few that no other write waits long; none at the end.

        Until `forget_leftovers`, `leftovers` tells of them.
        """
        ...

    async def leftovers(self) -> list[str]:
        """Ids of some removed tasks whose files are still to go."""
        ...

    async def forget_leftovers(self, task_ids: Collection[str]) -> None:
        """Their files are gone."""
        ...

    async def remove_user(self, user_id: str) -> int | None:
        """Remove an account that is shut out and has no tasks, with its keys; answers how many. None for any other."""
        ...

    # -- what was measured and learned --------------------------------------------------------------------------------
    async def measure(self, kind: str, name: str, x: float, y: float) -> None:
        """Add a measured pair; `kind` and `name` say of what (see docv2.estimate). Old ones fade, so sums follow."""
        ...

    async def measured(self, kind: str) -> dict[str, Sums]:
        """All sums of a kind by name."""
        ...

    async def estimate_errors(self, last: int) -> list[float]:
        """How far off the estimates of the last so many completed tasks were, newest first.

        Each is (real - estimated) / estimated of the time from acceptance to end: 0.25 took a quarter longer.
        """
        ...

    async def save_note(self, kind: str, name: str, value: JSONObject) -> None:
        """Keep a small fact: a catalogue (`catalog`, endpoint) or what was learned of a model (`model`, id)."""
        ...

    async def notes(self, kind: str) -> dict[str, JSONObject]:
        """All facts of a kind by name."""
        ...

    # -- the configuration --------------------------------------------------------------------------------------------
    async def add_configuration(self, new: Configuration) -> None:
        """Keep a new version; Conflict where there is one of its number."""

    async def configurations(self, *, up_to: int | None = None, limit: int = 1) -> list[Configuration]:
        """Versions, the latest first, those above `up_to` left out."""
        ...

    # -- accounts -----------------------------------------------------------------------------------------------------
    @property
    def revocations(self) -> int:
        """How often this process revoked a key or shut a user out: another number means not to trust what was read."""
        ...

    async def add_user(self, user: User) -> None:
        """Add a user; Conflict where the e-mail is taken (compared without case)."""
        ...

    async def user_by_email(self, email: str) -> User | None:
        """The user with this e-mail, compared without case."""
        ...

    async def users(self) -> list[User]:
        """Everyone, in order of creation."""
        ...

    async def user(self, user_id: str) -> User | None:
        """The user of this id."""
        ...

    async def set_active(self, user_id: str, *, active: bool) -> bool:
        """Shut a user out or let one in; False, and nothing done, where that would leave no active administrator."""
        ...

    async def rotate_key(self, key_id: str, key: ApiKey, sha256: str) -> None:
        """Add a key and revoke the one that it takes the place of, both or neither; Conflict where that was revoked."""
        ...

    async def credentials(self, user_id: str) -> Credentials | None:
        """What an active user signs in with. Cheap enough for every request."""
        ...

    async def set_password(self, user_id: str, password: str) -> None:
        """Keep the hash of a new password; every session of the user ends."""
        ...

    async def add_key(self, key: ApiKey, sha256: str) -> None:
        """Add a key by the SHA-256 of its text."""
        ...

    async def own_key(self, user_id: str) -> ApiKey | None:
        """The key that the user made, while it is not revoked."""
        ...

    async def replace_own_key(self, key: ApiKey, sha256: str) -> None:
        """Add the key that its user made; the one before it is revoked in the same moment."""
        ...

    async def revoke_own_key(self, user_id: str) -> ApiKey | None:
        """Revoke the key that the user made and answer it; None where there is none."""
        ...

    async def user_by_key(self, sha256: str) -> tuple[User, ApiKey, str] | None:
        """The active user of an unrevoked key, the key, and the stored digest for a constant-time compare."""
        ...

    async def keys(self, user_id: str) -> list[ApiKey]:
        """A user's keys, oldest first, revoked ones included."""
        ...

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke a key; False where there is no such unrevoked key."""
        ...

    async def key_used(self, key_id: str, when: float) -> None:
        """Note when a key was used last (Unix seconds); callers do this at most once a minute a key."""
        ...
