"""Which endpoints may be called now, and what a failed call means for its task."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from docv2.errors import ModelError, UpstreamUnavailable
from docv2.llm.catalog import Catalog, Model
from docv2.tasks import Task
from docv2.telemetry import metrics

SHORTEST_BLOCK = 1.0
LONGEST_BLOCK = 60.0
"""Seconds for which an endpoint is left alone; doubled with each block that no success ended."""
LEAST_POSTPONEMENT = 5.0
"""Seconds until a task asks again whether it may, where nobody knows when it may."""
FAILURES_TO_BLOCK = 3
"""Calls in a row that fail, one by one, before an endpoint that does not seem down is left alone."""
FAILURES_TO_GIVE_UP = 6
LONGEST_BACKOFF = 120.0
"""Seconds that a task waits at most beyond its endpoint's block."""
REMEMBERED = 10_000
"""Tasks whose last failure is kept in mind."""


@dataclass(slots=True)
class _State:
    blocks: int = 0
    """In a row, without a success between; 0 where calls succeed as far as anybody knows."""
    failures: int = 0
    """In a row, of those that do not say that the endpoint is down."""
    blocked_until: float = 0.0
    last_success: float = 0.0
    prober: str | None = None
    """The task that tries it after a block, alone."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a failed call means for its task."""

    error: ModelError | None
    """What the task fails with; None where it goes back to its place."""
    counts: bool
    """Whether it is one more failure of the task."""
    not_before: float
    """When the task may run again: later than its endpoint, so that another task tries that first."""


class EndpointHealth:
    """A circuit breaker for each endpoint. Kept in memory: a start tries every endpoint anew."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` gives numbers from 0 to 1."""
        self._catalog = catalog
        self._clock = clock
        self._jitter = jitter
        self._states: dict[str, _State] = {}
        self._failed_at: OrderedDict[str, float] = OrderedDict()
        self.on_open: Callable[[], None] = lambda: None
        """Called when an endpoint that one task was trying may be called by others."""

    # -- what may be claimed ------------------------------------------------------------------------------------------
    def blocked_endpoints(self) -> set[str]:
        """Names of the endpoints that are left alone now, or tried by one task alone."""
        now = self._clock()
        return {name for name, state in self._states.items() if now < state.blocked_until or state.prober}

    def blocked_models(self) -> set[str]:
        """Ids of the models of which no further task may start now, for `Store.claim`."""
        blocked = self.blocked_endpoints()
        return {model for model in self._catalog.ids_at(blocked) if self._waits(model, blocked)} if blocked else set()

    def holds_back(self, model_id: str) -> bool:
        """Whether it is one of them."""
        return self._waits(model_id, self.blocked_endpoints())

    def _waits(self, model_id: str, blocked: Collection[str]) -> bool:
        """Whether neither the model nor any of its fallbacks may be asked."""
        return self._catalog.endpoint_of(model_id) in blocked and all(
            fallback.endpoint in blocked for fallback in self._catalog.fallbacks(model_id)
        )

    def next_opening(self) -> float | None:
        """When the next endpoint may be tried (Unix seconds); None where none is blocked for a time."""
        now = self._clock()
        return min((s.blocked_until for s in self._states.values() if s.blocked_until > now), default=None)

    def lets_in(self, task: Task, model: Model) -> bool:
        """Whether a running task may ask a model now. The first one after a block keeps others waiting meanwhile."""
        state = self._of(model.endpoint)
        if self._clock() < state.blocked_until:
            return False
        if state.blocks and state.prober is None:
            state.prober = task.task_id
        return state.prober in (None, task.task_id)

    def postponed(self, models: Sequence[Model]) -> Consequence:
        """What it means for a task that it may ask none of these models now: back to its place until one opens."""
        opening = min(self._of(model.endpoint).blocked_until for model in models)
        return Consequence(error=None, counts=False, not_before=max(opening, self._clock() + LEAST_POSTPONEMENT))

    # -- what happened ------------------------------------------------------------------------------------------------
    def started(self, task: Task) -> None:
        """A task was claimed. The first one after a block keeps others of its endpoint waiting until it knows more."""
        if model := self._catalog.get(task.model):
            self.lets_in(task, model)

    def finished(self, task: Task) -> None:
        """A task left the pool or a model for whatever reason; if it was to try the endpoint, another may."""
        for state in self._states.values():
            if state.prober == task.task_id:
                self._release(state)

    def succeeded(self, model: Model) -> None:
        """A call was answered. A block that runs is kept: the call may have begun before it."""
        state = self._of(model.endpoint)
        state.blocks = state.failures = 0
        state.last_success = self._clock()
        self._release(state)

    def after_failure(self, task: Task, error: UpstreamUnavailable, *, given_up: int = 0) -> Consequence:
        """A call failed: what becomes of the endpoint that the error names, and of the task.

        `given_up` counts the models that failed for good on the task before this one was asked.
        """
        metrics.upstream_failed(error.endpoint, down=error.endpoint_down)
        state = self._of(error.endpoint)
        now = self._clock()
        state.failures += not error.endpoint_down
        if error.endpoint_down or state.failures >= FAILURES_TO_BLOCK or state.prober == task.task_id:
            self._block(state, error.retry_after, now)
        served_since = state.last_success > self._failed_at.pop(task.task_id, now)
        self._failed_at[task.task_id] = now
        if len(self._failed_at) > REMEMBERED:
            self._failed_at.popitem(last=False)
        return consequence(
            error,
            failures=task.upstream_failures,
            most=FAILURES_TO_GIVE_UP * (1 + given_up),
            served_since=served_since,
            now=now,
            blocked_until=state.blocked_until,
            jitter=self._jitter(),
        )

    def _release(self, state: _State) -> None:
        if state.prober is not None:
            state.prober = None
            self.on_open()

    def _block(self, state: _State, retry_after: float | None, now: float) -> None:
        if now >= state.blocked_until:  # calls that were under way together count as one
            state.blocks += 1
        seconds = min(LONGEST_BLOCK, SHORTEST_BLOCK * 2.0 ** min(state.blocks - 1, 10)) * _spread(self._jitter())
        state.blocked_until = max(state.blocked_until, now + max(seconds, retry_after or 0.0))
        state.failures = 0
        state.prober = None

    def _of(self, endpoint: str) -> _State:
        return self._states.setdefault(endpoint, _State())


def consequence(
    error: UpstreamUnavailable,
    *,
    failures: int,
    served_since: bool,
    now: float,
    blocked_until: float,
    jitter: float,
    most: int = FAILURES_TO_GIVE_UP,
) -> Consequence:
    """What a failed call means for a task that had so many failures, of `most` that end it.

    A failure counts against the task where the endpoint is not down, or is down for this task alone: it has served
    others since the task failed last. An endpoint that asks to wait never counts. `jitter` is from 0 to 1.
    """
    counts = not error.endpoint_down or (served_since and error.retry_after is None)
    failures += counts
    seconds = min(LONGEST_BACKOFF, 2.0 ** max(failures, 1)) * _spread(jitter)
    gives_up = counts and failures >= most
    given_up = ModelError(f"Given up after {failures} failed calls. The last: {error.message}")
    given_up.quoted = error.quoted
    return Consequence(
        error=given_up if gives_up else None,
        counts=counts,
        not_before=max(blocked_until, now + (error.retry_after or 0.0)) + seconds,
    )


def _spread(jitter: float) -> float:
    """A factor of 1 give or take a quarter, so that those who failed together do not come back together."""
    return 0.75 + jitter / 2
