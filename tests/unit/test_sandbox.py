"""Children of the sandbox: what they hand over, what they are kept from, and every way they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from docv2.errors import DocumentError, DocV2Error, OverLimit, ParserDied, StartError
from docv2.sandbox import Sandbox
from tests import jobs
from tests.waiting import until

MIB = 1024**2


@contextlib.asynccontextmanager
async def opened(**limits: Any) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(**limits)
    try:
        yield sandbox
    finally:
        await sandbox.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with opened(memory_limit=512 * MIB, look_ahead=2) as sandbox:
        yield sandbox


async def test_hands_over_what_the_job_yields(sandbox: Sandbox) -> None:
    assert [item async for item in sandbox.run(jobs.count, 5, owner="a")] == [0, 1, 2, 3, 4]
    assert [item async for item in sandbox.run(jobs.count, 0, owner="a")] == []


async def test_runs_side_by_side(sandbox: Sandbox) -> None:
    async def collect(number: int) -> list[int]:
        return [item async for item in sandbox.run(jobs.count, number, owner=f"task-{number}")]

    results = await asyncio.gather(*(collect(number) for number in range(20)))
    assert results == [list(range(number)) for number in range(20)]


async def test_a_slow_consumer_stops_the_child(sandbox: Sandbox, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    async with aclosing(sandbox.run(jobs.count_aloud, str(notes), 50, owner="a")) as items:
        for taken in range(1, 5):
            assert await anext(items) == taken - 1
            [child] = sandbox.children()
            process = psutil.Process(child.pid)

            def stopped(process: psutil.Process = process, taken: int = taken) -> bool:
                return process.status() == psutil.STATUS_SLEEPING and notes.read_text().count("\n") >= taken + 2

            await until(stopped)
            assert notes.read_text().count("\n") == taken + 2  # The two that it may be ahead.


async def test_a_child_is_given_nothing_of_the_server(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBUI_SECRET_KEY", "hunter2")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    with Path("/proc/self/status").open(), socket_pair_inheritable():
        [seen] = [item async for item in sandbox.run(jobs.surroundings, owner="a")]
    assert "hunter2" not in seen["own_environ"] + seen["parents_environ"] + str(seen["environment"])
    assert set(seen["environment"]) <= {
        *("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TESSDATA_PREFIX", "TZ"),
        *("PYTHONPATH", "PYTHONUTF8", "OMP_THREAD_LIMIT", "MALLOC_MMAP_THRESHOLD_"),
    }
    kinds = {number: re.sub(r":.*", "", target) for number, target in seen["descriptors"].items()}
    assert kinds.pop("0") == kinds.pop("1") == "/dev/null"
    assert sorted(kinds.values()) == ["pipe", "socket"]
    assert seen["folder"] == str(Path.cwd())  # So that paths mean the same.
    assert seen["umask"] == 0o077
    assert seen["niceness"] >= 5
    assert seen["oom_score"] == 800
    assert seen["no_new_privileges"]
    limits = seen["limits"]
    assert limits["AS"] == [512 * MIB] * 2
    assert limits["FSIZE"] == [64 * MIB] * 2
    assert limits["NOFILE"] == [64] * 2
    assert limits["CORE"] == limits["NPROC"] == [0, 0]
    assert 60 <= limits["CPU"][0] <= 63
    assert "asyncio" not in seen["modules"]  # The server's half is not even loaded.


@contextlib.contextmanager
def socket_pair_inheritable() -> Any:
    """Descriptors that a careless fork or exec would take along."""
    ends = os.pipe()
    for end in ends:
        os.set_inheritable(end, True)
    yield
    for end in ends:
        os.close(end)


async def test_a_restarted_fork_server_is_as_clean(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    [before] = [item async for item in sandbox.run(jobs.surroundings, owner="a")]
    async with aclosing(sandbox.run(jobs.hang, owner="b")) as items:
        await anext(items)
        [child] = sandbox.children()
        os.kill(before["parent"], signal.SIGKILL)
        with pytest.raises(ParserDied):
            await anext(items)
        await until(lambda: not psutil.pid_exists(child.pid))  # Children do not outlive it.
    monkeypatch.setenv("WEBUI_SECRET_KEY", "hunter2")
    [after] = [item async for item in sandbox.run(jobs.surroundings, owner="a")]
    assert after["parent"] != before["parent"]
    assert "hunter2" not in after["own_environ"] + after["parents_environ"]


async def test_children_do_not_outlive_the_sandbox() -> None:
    async with opened() as sandbox:
        items = sandbox.run(jobs.hang, owner="a")
        await anext(items)
        [child] = sandbox.children()
        fork_server = psutil.Process(child.pid).ppid()
    assert not psutil.pid_exists(fork_server)
    assert not psutil.pid_exists(child.pid)
    with pytest.raises(ParserDied):
        await anext(items)


async def test_no_process_or_descriptor_is_left_behind(sandbox: Sandbox) -> None:
    await sandbox.start()
    [seen] = [item async for item in sandbox.run(jobs.surroundings, owner="a")]

    async def end_early(run: int) -> None:
        async with aclosing(sandbox.run(jobs.count, 100, owner=str(run))) as items:
            await anext(items)

    async def end_badly(run: int) -> None:
        with contextlib.suppress(ParserDied):
            async for _ in sandbox.run(jobs.leave, owner=str(run)):
                pass

    before = psutil.Process().num_fds(), psutil.Process(seen["parent"]).num_fds()
    for run in range(0, 200, 4):
        await asyncio.gather(end_early(run), end_early(run + 1), end_badly(run + 2), end_badly(run + 3))
    assert psutil.Process(seen["parent"]).children() == []
    assert sandbox.children() == []
    assert (psutil.Process().num_fds(), psutil.Process(seen["parent"]).num_fds()) == before


async def test_closing_the_generator_kills_the_child(sandbox: Sandbox) -> None:
    async with aclosing(sandbox.run(jobs.spin, owner="a")) as items:
        await anext(items)
        [child] = sandbox.children()
        assert child.owner == "a"
        assert MIB < child.memory < 512 * MIB
    assert not psutil.pid_exists(child.pid)


async def test_cancelling_the_consumer_kills_the_child(sandbox: Sandbox) -> None:
    first = asyncio.Event()

    async def consume() -> None:
        async with aclosing(sandbox.run(jobs.hang, owner="a")) as items:
            async for _ in items:
                first.set()

    consumer = asyncio.create_task(consume())
    await first.wait()
    [child] = sandbox.children()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert not psutil.pid_exists(child.pid)


async def collect(sandbox: Sandbox, job: Any, *args: Any, needs: Sequence[str] = ()) -> list[Any]:
    return [item async for item in sandbox.run(job, *args, owner="a", needs=needs)]


async def take(items: AsyncIterator[Any]) -> tuple[list[Any], Exception | None]:
    """What arrives, and the error at its end."""
    taken: list[Any] = []
    try:
        async for item in items:
            taken.append(item)  # noqa: PERF401 - what came before the error counts
    except DocV2Error as error:
        return taken, error
    return taken, None


async def test_a_document_error_arrives_as_it_was_raised(sandbox: Sandbox) -> None:
    with pytest.raises(DocumentError) as caught:
        await collect(sandbox, jobs.refuse, "The file is encrypted.\x1b[2J\n" + "x" * 5000)
    assert type(caught.value) is DocumentError
    assert caught.value.message.startswith("The file is encrypted.[2J")
    assert len(caught.value.message) <= 1000


async def test_any_other_exception_is_logged_and_not_shown(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DocumentError) as caught:
        await collect(sandbox, jobs.stumble)
    assert caught.value.message == "The document cannot be read."
    [record] = [record for record in caplog.records if record.message == "child failed"]
    told = vars(record)["traceback"]
    assert "jobs.py" in told
    assert told.endswith("KeyError")  # Without its message, which may quote the document.


def peak(caplog: pytest.LogCaptureFixture) -> int:
    """MiB that the only child took, as logged."""
    [peak] = [vars(record)["child_mib_peak"] for record in caplog.records if "child_mib_peak" in vars(record)]
    assert isinstance(peak, int)
    return peak


async def test_memory_is_limited(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(OverLimit, match="more memory"):
        await collect(sandbox, jobs.eat_memory)
    assert 300 < peak(caplog) <= 512


async def test_a_crash_for_want_of_memory_is_told_from_others(sandbox: Sandbox) -> None:
    with pytest.raises(OverLimit, match="more memory"):
        await collect(sandbox, jobs.abort_full)


async def test_memory_can_be_limited_further_for_one_run(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(OverLimit, match="more memory"):
        _ = [item async for item in sandbox.run(jobs.eat_memory, owner="a", memory_limit=256 * MIB)]
    assert peak(caplog) <= 256


@pytest.fixture
async def hasty() -> AsyncIterator[Sandbox]:
    async with opened(cpu_seconds=1, step_seconds=0.4, total_seconds=0.8, look_ahead=2) as sandbox:
        yield sandbox


async def test_a_child_that_makes_no_progress_is_ended(hasty: Sandbox) -> None:
    with pytest.raises(OverLimit, match="takes longer"):
        await collect(hasty, jobs.hang)
    assert hasty.children() == []


async def test_all_steps_together_are_limited(hasty: Sandbox) -> None:
    taken, error = await take(hasty.run(jobs.work, 0.02, 1000, owner="a"))
    assert isinstance(error, OverLimit)
    assert 1 <= len(taken) <= 40


async def test_a_slow_consumer_is_not_held_against_the_child(hasty: Sandbox, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    async with aclosing(hasty.run(jobs.count_aloud, str(notes), 4, owner="a")) as items:
        await anext(items)
        await until(lambda: notes.read_text().count("\n") == 3)
        await asyncio.sleep(1.0)  # The time itself is what is tested: more than the whole run may take.
        assert [item async for item in items] == [1, 2, 3]


async def test_cpu_time_is_limited_step_by_step() -> None:
    async with opened(cpu_seconds=1) as sandbox:
        assert await collect(sandbox, jobs.work, 0.6, 4) == [0, 1, 2, 3]
        with pytest.raises(OverLimit, match="processing time"):
            await collect(sandbox, jobs.spin)


@pytest.mark.parametrize(
    ("job", "args", "sign"),
    [
        (jobs.die, (signal.SIGKILL,), "exit -9"),
        (jobs.die, (signal.SIGABRT,), "exit -6"),
        (jobs.crash, (), "Segmentation fault"),
        (jobs.leave, (), "exit 0"),
        (jobs.hang_up, (), "exit -9"),
    ],
)
async def test_a_child_that_dies_says_so(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, job: Any, args: tuple[Any, ...], sign: str
) -> None:
    with pytest.raises(ParserDied):
        await collect(sandbox, job, *args)
    [record] = [record for record in caplog.records if record.message == "child died"]
    assert sign in f"exit {vars(record)['exit']} {vars(record)['stderr']}"
    assert await collect(sandbox, jobs.count, 2) == [0, 1]


async def test_what_was_sent_before_a_death_still_arrives(tmp_path: Path) -> None:
    # The word that "one" was taken lies unread when the child dies: the kernel then reports a reset before the rest.
    async with opened(look_ahead=8) as sandbox:
        items = sandbox.run(jobs.last_words, str(tmp_path / "now"), owner="a")
        taken = [await anext(items)]
        [child] = sandbox.children()
        (tmp_path / "now").touch()
        await until(lambda: not psutil.pid_exists(child.pid))
        rest, error = await take(items)
    assert isinstance(error, ParserDied)
    assert [*taken, *rest] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "text", ["", "no json", "[1]", "{}", '{"item":1,"end":2}', "[" * 100_000, '{"end":' + "9" * 100_000 + "}", "\udcff"]
)
async def test_nonsense_ends_the_run(sandbox: Sandbox, text: str) -> None:
    with pytest.raises((ParserDied, DocumentError)):
        await collect(sandbox, jobs.babble, text)
    assert sandbox.children() == []


async def test_what_is_too_large_is_not_sent(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    assert await collect(sandbox, jobs.shout, 100_000) == ["x" * 100_000]
    with pytest.raises(DocumentError):
        await collect(sandbox, jobs.shout, 200_000)
    assert "MessageTooLarge" in vars(caplog.records[0])["traceback"]


async def test_a_flood_reaches_no_further_than_it_is_taken(sandbox: Sandbox) -> None:
    async with aclosing(sandbox.run(jobs.flood, owner="a")) as items:
        for _ in range(2000):  # More credit than the child's end of the line can hold unread.
            await anext(items)
    assert sandbox.children() == []


async def test_noise_stays_in_the_child(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert await collect(sandbox, jobs.make_noise) == [1]
    assert capfd.readouterr() == ("", "")


async def test_files_are_limited(sandbox: Sandbox, tmp_path: Path) -> None:
    assert await collect(sandbox, jobs.write_file, str(tmp_path / "small"), MIB) == [MIB]
    with pytest.raises(DocumentError):
        await collect(sandbox, jobs.write_file, str(tmp_path / "large"), 65 * MIB)
    assert (tmp_path / "large").stat().st_size <= 64 * MIB


async def test_a_child_cannot_leave_a_process_behind(sandbox: Sandbox) -> None:
    assert await collect(sandbox, jobs.fork) == ["refused"]


async def test_a_fork_server_that_does_not_start_is_a_start_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(StartError):
        await Sandbox().start()


async def test_what_a_job_needs_is_loaded_once_for_all_children(sandbox: Sandbox) -> None:
    assert await collect(sandbox, jobs.loaded, "wave") == [False]
    for _ in range(2):
        assert await collect(sandbox, jobs.loaded, "wave", needs=["wave"]) == [True]
    assert await collect(sandbox, jobs.loaded, "wave") == [True]


async def test_what_does_not_load_hinders_no_other_job(sandbox: Sandbox) -> None:
    assert await collect(sandbox, jobs.count, 2, needs=["tests.unloadable", "tests.not_there"]) == [0, 1]
