"""Reports to a supervisor: sent if one listens, and never waited for."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.units import Supervisor
from harness import until

from broadway.runtime import supervision
from broadway.runtime.cancellation import end


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    with Supervisor.listening(tmp_path / "notify") as listener:
        for name, value in listener.environment.items():
            monkeypatch.setenv(name, value)
        supervision.arm()
        yield listener
    supervision.arm({})


async def test_a_process_reports_as_long_as_its_event_loop_runs(systemd: Supervisor) -> None:
    supervision.ready()
    alive = asyncio.create_task(supervision.report_alive())
    await until(systemd.is_alive)
    await end(alive)

    assert systemd.heard[0] == "READY=1"


def test_a_state_is_one_line_of_bounded_length(systemd: Supervisor) -> None:
    supervision.status("a\nREADY=1" + 1000 * "x")

    (report,) = systemd.read()
    assert "\n" not in report
    assert len(report) < 600


def test_children_do_not_report(systemd: Supervisor) -> None:
    shown = subprocess.check_output([sys.executable, "-c", "import os; print(*os.environ)"], text=True)

    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & ({*shown.split()} | os.environ.keys())
    assert systemd.read() == []


def test_a_supervisor_that_does_not_read_stops_no_process(systemd: Supervisor) -> None:
    for _ in range(10_000):  # more than the socket takes
        supervision.status("waiting")

    assert systemd.read()[0] == "STATUS=waiting"


async def test_a_busy_supervisor_hears_of_the_complete_start_later(systemd: Supervisor) -> None:
    for _ in range(10_000):
        supervision.status("waiting")
    supervision.ready()
    assert not systemd.is_ready()

    await until(systemd.is_ready)


def test_a_supervisor_that_has_gone_stops_no_process(systemd: Supervisor) -> None:
    systemd.channel.close()
    systemd.path.unlink()
    supervision.ready()
    supervision.status("ready")


async def test_without_a_supervisor_the_reports_end_at_once() -> None:
    supervision.arm({})
    supervision.ready()
    await supervision.report_alive()
