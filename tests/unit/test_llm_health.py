"""When endpoints are left alone, who tries them again, and when a task is itself the trouble."""

from __future__ import annotations

import pytest

from docv2.configparts import ModelConfig
from docv2.errors import UpstreamUnavailable
from docv2.llm.catalog import Catalog, Model
from docv2.llm.client import Endpoint
from docv2.llm.health import FAILURES_TO_GIVE_UP, EndpointHealth, consequence
from docv2.llm.learned import Learned
from docv2.tasks import JSONObject, Task, TaskStatus

ONE, TWO = "http://one.test/v1", "http://two.test/v1"


class Stored:
    """The last catalogue of two endpoints."""

    async def notes(self, kind: str) -> dict[str, JSONObject]:
        named = {ONE: ["a", "b"], TWO: ["c"]}
        entries = {url: {"models": [{"id": id_, "name": id_} for id_ in ids]} for url, ids in named.items()}
        return entries if kind == "catalog" else {}

    async def save_note(self, kind: str, name: str, value: JSONObject) -> None:
        raise AssertionError("nothing to keep")


ENTRIES: dict[str, ModelConfig] = {}
"""What the administrator says of models; empty as each test begins."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def health(clock: Clock) -> EndpointHealth:
    ENTRIES.clear()
    catalog = Catalog([Endpoint(ONE), Endpoint(TWO)], Stored(), Learned(), said=lambda: ENTRIES)
    await catalog.load()
    return EndpointHealth(catalog, clock=clock, jitter=lambda: 0.5)


def task(task_id: str = "t", model: str = "a", failures: int = 0) -> Task:
    return Task(
        task_id,
        place=1,
        user_id="u",
        status=TaskStatus.RUNNING,
        filename="f",
        media_type="text/plain",
        size=1,
        sha256="",
        prompt="p",
        model=model,
        temperature=0,
        max_tokens=1,
        created_at=0,
        upstream_failures=failures,
    )


def model(endpoint: str = ONE) -> Model:
    return Model("a", endpoint, "a", vision=True, context=1, pictures_per_call=1)


def down(retry_after: float | None = None, endpoint: str = ONE) -> UpstreamUnavailable:
    return UpstreamUnavailable("down", endpoint_down=True, retry_after=retry_after, endpoint=endpoint)


def failing(endpoint: str = ONE) -> UpstreamUnavailable:
    return UpstreamUnavailable("failed", endpoint_down=False, endpoint=endpoint)


def test_a_down_endpoint_blocks_its_models_and_no_others(health: EndpointHealth, clock: Clock) -> None:
    assert health.blocked_models() == set()
    assert health.next_opening() is None
    health.after_failure(task(), down())
    assert health.blocked_models() == {"a", "b"}
    assert health.next_opening() == clock.now + 1
    clock.now += 1
    assert health.blocked_models() == set()
    assert health.next_opening() is None


def test_a_fallback_whose_endpoint_works_lets_its_models_tasks_start(health: EndpointHealth) -> None:
    ENTRIES.update(a=ModelConfig(fallback="c"), c=ModelConfig(fallback="b"))
    health.after_failure(task(), down())
    assert health.blocked_models() == {"b"}
    assert (health.holds_back("a"), health.holds_back("b"), health.holds_back("c")) == (False, True, False)
    health.after_failure(task("t2", "c"), down(endpoint=TWO))
    assert health.blocked_models() == {"a", "b", "c"}
    assert health.blocked_endpoints() == {ONE, TWO}


def test_while_an_endpoint_is_left_alone_nobody_asks_it_and_then_one(health: EndpointHealth, clock: Clock) -> None:
    health.after_failure(task(), down(retry_after=30))
    assert not health.lets_in(task("t1"), model())
    assert health.lets_in(task("t1"), model(TWO))
    assert health.postponed([model()]).not_before == clock.now + 30
    clock.now += 30
    assert health.lets_in(task("t1"), model())
    assert not health.lets_in(task("t2"), model())
    assert health.postponed([model()]).not_before > clock.now, "nobody knows when; not at once"
    health.succeeded(model())
    assert health.lets_in(task("t2"), model())


def test_each_block_doubles_up_to_a_minute_until_a_success(health: EndpointHealth, clock: Clock) -> None:
    def next_block() -> float:
        health.after_failure(task(), down())
        seconds = (health.next_opening() or 0) - clock.now
        clock.now += seconds
        return seconds

    assert [next_block() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    health.succeeded(model())
    assert next_block() == 1


def test_calls_that_fail_together_count_as_one(health: EndpointHealth, clock: Clock) -> None:
    for number in range(30):
        health.after_failure(task(f"t{number}"), down())
    assert health.next_opening() == clock.now + 1


@pytest.mark.parametrize(("asked", "kept"), [(0.2, 1.0), (30.0, 30.0), (3600.0, 3600.0)])
def test_retry_after_is_obeyed(health: EndpointHealth, clock: Clock, asked: float, kept: float) -> None:
    after = health.after_failure(task(), down(asked))
    assert health.next_opening() == clock.now + kept
    assert after.not_before > clock.now + kept
    health.succeeded(model())  # of a call that began before
    assert health.next_opening() == clock.now + kept


def test_one_failure_blocks_nobody_but_three_in_a_row_do(health: EndpointHealth) -> None:
    health.after_failure(task("t1"), failing())
    health.after_failure(task("t2"), failing())
    health.succeeded(model())
    health.after_failure(task("t3"), failing())
    health.after_failure(task("t4"), failing())
    assert health.blocked_models() == set()
    health.after_failure(task("t5"), failing())
    assert health.blocked_models() == {"a", "b"}


def test_after_a_block_one_task_tries_alone(health: EndpointHealth, clock: Clock) -> None:
    opened: list[float] = []
    health.on_open = lambda: opened.append(clock.now)
    health.started(task("old"))
    health.after_failure(task("old"), down())
    clock.now += 1
    assert health.blocked_models() == set()
    health.started(task("probe"))
    assert health.blocked_models() == {"a", "b"}
    health.finished(task("old"))  # a straggler changes nothing
    health.started(task("other", model="c"))
    health.finished(task("other", model="c"))
    assert health.blocked_models() == {"a", "b"}
    assert not opened
    health.succeeded(model())
    assert health.blocked_models() == set()
    assert opened == [clock.now]


def test_a_try_that_fails_in_any_way_blocks_for_longer(health: EndpointHealth, clock: Clock) -> None:
    health.after_failure(task(), down())
    clock.now += 1
    health.started(task("probe"))
    health.after_failure(task("probe"), failing())
    assert health.next_opening() == clock.now + 2


def test_a_try_that_ends_without_a_call_passes_to_the_next(health: EndpointHealth, clock: Clock) -> None:
    opened: list[float] = []
    health.on_open = lambda: opened.append(clock.now)
    health.after_failure(task(), down())
    clock.now += 1
    health.started(task("probe"))
    health.finished(task("probe"))
    assert opened
    assert health.blocked_models() == set()
    health.started(task("next"))
    assert health.blocked_models() == {"a", "b"}


def test_who_failed_comes_back_after_the_endpoint_opens(health: EndpointHealth) -> None:
    for failures in range(10):
        after = health.after_failure(task(failures=failures), down())
        opening = health.next_opening()
        assert opening is not None
        assert after.not_before > opening


def test_an_endpoint_that_is_down_never_fails_its_tasks(health: EndpointHealth, clock: Clock) -> None:
    failures = 0
    for _ in range(50):
        clock.now += 100
        after = health.after_failure(task(failures=failures), down())
        failures += after.counts
        assert after.error is None
    assert failures == 0


def test_an_endpoint_that_asks_to_wait_never_fails_its_tasks(health: EndpointHealth, clock: Clock) -> None:
    for _ in range(50):
        clock.now += 100
        health.succeeded(model())  # others get through
        clock.now += 1
        assert not health.after_failure(task(), down(retry_after=1)).counts


def test_a_task_that_alone_brings_its_endpoint_down_is_given_up(health: EndpointHealth, clock: Clock) -> None:
    failures = 0
    for _ in range(20):
        after = health.after_failure(task(failures=failures), down())
        failures += after.counts
        if after.error is not None:
            break
        clock.now += 100
        health.succeeded(model())  # it served another task meanwhile
        clock.now += 1
    assert failures == FAILURES_TO_GIVE_UP
    assert after.error is not None
    assert "down" in after.error.message


def test_a_task_on_which_the_endpoint_keeps_failing_is_given_up() -> None:
    for failures in range(FAILURES_TO_GIVE_UP):
        after = consequence(failing(), failures=failures, served_since=False, now=1000, blocked_until=0, jitter=0.5)
        assert after.counts
        assert (after.error is not None) == (failures == FAILURES_TO_GIVE_UP - 1)


def test_each_model_that_a_task_is_put_to_has_as_many_tries() -> None:
    after = [
        consequence(failing(), failures=n, served_since=False, now=0, blocked_until=0, jitter=0, most=12)
        for n in range(12)
    ]
    assert [one.error is not None for one in after] == [False] * 11 + [True]


def test_back_off_grows_with_the_tasks_failures() -> None:
    def wait(failures: int, jitter: float = 0.5) -> float:
        return (
            consequence(
                failing(), failures=failures, served_since=False, now=1000, blocked_until=0, jitter=jitter
            ).not_before
            - 1000
        )

    assert [wait(n) for n in range(8)] == [2, 4, 8, 16, 32, 64, 120, 120]
    assert wait(0, jitter=0) < wait(0) < wait(0, jitter=1)
