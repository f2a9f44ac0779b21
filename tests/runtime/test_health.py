"""Health: unavailable parts, since when they are so, and the supervisor's view of them."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from harness import until
from typer.testing import CliRunner

from broadway import readiness
from broadway.cli.app import app
from broadway.readiness import judge
from broadway.runtime.cancellation import end
from broadway.runtime.health import GIVE_UP, Health


class Part:
    """A part that answers, or fails."""

    def __init__(self) -> None:
        self.problem: Exception | None = None

    async def ask(self) -> None:
        if self.problem:
            raise self.problem


@pytest.fixture
def store() -> Part:
    return Part()


@pytest.fixture
def broker() -> Part:
    return Part()


async def test_a_part_is_unavailable_from_its_first_failure_to_its_next_answer(store: Part, broker: Part) -> None:
    health = Health({"store": store.ask, "broker": broker.ask})
    await health.check()
    assert (health.is_ready, health.report()["away"]) == (True, {})

    store.problem = ConnectionError("refused")
    await health.check()
    first = health.report()
    assert (first["ready"], first["store"], first["broker"]) == (False, False, True)
    store.problem = TimeoutError("no answer")
    await health.check()
    again = health.report()["away"]["store"]
    assert again == {"since": first["away"]["store"]["since"], "reason": "no answer"}

    store.problem = None
    await health.check()
    assert health.is_ready


async def test_a_clock_that_is_set_forward_ends_no_outage(store: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=2)

    health = Health({"store": store.ask})
    store.problem = ConnectionError("refused")
    await health.check()
    monkeypatch.setattr("broadway.runtime.health.datetime", Ahead)

    assert health.is_unavailable("store")


async def test_a_service_is_ready_without_a_part_that_is_not_vital(store: Part, broker: Part) -> None:
    health = Health({"store": store.ask, "broker": broker.ask}, vital=frozenset({"store"}))
    broker.problem = OSError("gone")
    await health.check()
    assert health.is_ready
    assert health.is_unavailable("broker")


async def test_a_part_that_does_not_answer_is_unavailable_and_checked_again(store: Part) -> None:
    silent = asyncio.Event()

    async def ask() -> None:
        if not silent.is_set():
            silent.set()
            await asyncio.Event().wait()
        await store.ask()

    health = Health({"store": ask}, give_up=0.01)
    await health.check()
    assert health.report()["away"]["store"]["reason"] == "no answer within 0.01 s"
    await health.check()
    assert health.is_ready


async def test_a_loss_is_reported_to_its_waiters(store: Part) -> None:
    health = Health({"store": store.ask})
    waiting = health.loss("store")
    await health.check()
    assert not waiting.done()

    store.problem = OSError("gone")
    await health.check()
    assert waiting.done()
    assert health.loss("store").done()
    store.problem = None
    await health.check()
    assert not health.loss("store").done()


async def test_a_silent_part_does_not_block_checks_of_other_parts(store: Part) -> None:
    checks = 0

    async def silent() -> None:
        nonlocal checks
        checks += 1
        if checks > 1:
            await asyncio.Event().wait()

    health = Health({"store": store.ask, "broker": silent}, interval=0.01)
    checking = asyncio.create_task(health.run())
    await until(lambda: checks > 1)
    store.problem = OSError("gone")
    async with asyncio.timeout(GIVE_UP / 2):
        await health.loss("store")
    assert not health.is_unavailable("broker")
    await end(checking)


async def test_each_part_may_have_its_own_timeout() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    health = Health({"store": silent}, patience={"store": 0.01})
    await health.check()
    assert health.report()["away"]["store"]["reason"] == "no answer within 0.01 s"


async def test_a_part_that_answers_others_is_slow_and_not_away() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    def last() -> float:
        return answers.pop() if answers else began

    patience, began = {"store": 0.01}, time.monotonic()
    health = Health({"store": silent}, patience=patience, give_up=0.02, answered_at={"store": time.monotonic})
    await health.check()
    assert health.is_ready

    answers = [time.monotonic()]
    health = Health({"store": silent}, patience=patience, answered_at={"store": last})
    await health.check()
    assert not answers
    assert health.report()["away"]["store"]["reason"] == "no answer within 0.01 s"


async def test_supervisors_read_the_file_of_reports(store: Part, tmp_path: Path) -> None:
    file = tmp_path / "health"
    health = Health({"store": store.ask}, file=file)
    now = datetime.now(UTC)
    assert judge(file, now)[0] is False

    await health.check()
    assert judge(file, now) == (True, "ready")
    store.problem = OSError("gone")
    await health.check()
    is_ready, sentence = judge(file, now)
    assert not is_ready
    assert sentence.startswith("store is away since ")
    assert sentence.endswith(": gone")
    assert "stuck" in judge(file, now + timedelta(minutes=1))[1]
    file.write_text("{")
    assert "no report" in judge(file, now)[1]


async def test_the_health_command_exits_by_the_report(store: Part, tmp_path: Path) -> None:
    file = tmp_path / "health"
    await Health({"store": store.ask}, file=file).check()

    answer = CliRunner().invoke(app, ["health", str(file)])
    assert (answer.exit_code, answer.output) == (0, "ready\n")
    file.write_text(json.dumps({"looked_at": "2020-01-01T00:00:00+00:00"}))
    assert CliRunner().invoke(app, ["health", str(file)]).exit_code == 1


@pytest.mark.parametrize(
    ("ready", "arguments", "code", "said"),
    [
        (True, ["report.json"], 0, "ready\n"),
        (False, ["report.json"], 1, "store is away since noon: gone\n"),
        (True, ["other.json"], 1, "other.json: no report: [Errno 2] No such file or directory: 'other.json'\n"),
        (True, [], 2, ""),
    ],
)
def test_readiness_prints_and_exits_by_the_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
    *,
    ready: bool,
) -> None:
    away = {} if ready else {"store": {"since": "noon", "reason": "gone"}}
    report = {"ready": ready, "away": away, "looked_at": datetime.now(UTC).isoformat()}
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["readiness", *arguments])
    with pytest.raises(SystemExit) as ended:
        readiness.main()
    assert (ended.value.code, capsys.readouterr().out) == (code, said)
