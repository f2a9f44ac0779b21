"""Signals to programs that wait for the broker or the API, and to programs whose log files were renamed."""

import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import Cluster, free_port, until
from processes import Processes, processes

TOKEN = "token"


@pytest.fixture
async def lonely(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Processes]:
    """Programs with a store, and without a broker or an API."""
    environment = {
        "BROADWAY_AMQP_URL": f"amqp://u:p@127.0.0.1:{free_port()}/v",
        "BROADWAY_MONGODB_DSN": cluster.place.mongodb_dsn,
        "BROADWAY_LOG_DIR": str(tmp_path / "logs"),
    }
    async with processes(tmp_path, environment) as started:
        yield started


async def has_logged(program: Processes, name: str, text: str) -> None:
    await until(lambda: text in program.log(name))


@pytest.mark.parametrize(
    ("service", "number"),
    [
        ("dispatcher", signal.SIGTERM),
        ("results", signal.SIGINT),
        pytest.param("dispatcher", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("results", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
async def test_a_service_that_waits_for_the_broker_ends_when_told(
    lonely: Processes, service: str, number: signal.Signals
) -> None:
    await lonely.service(service)
    await has_logged(lonely, service, "waiting for the broker")

    lonely.running[service].send_signal(number)
    assert await lonely.running[service].wait() == 0
    assert "stopped before the start was complete" in lonely.log(service)


@pytest.mark.parametrize("way", ["broker", "api"])
async def test_a_grader_that_waits_ends_when_told(lonely: Processes, way: str, tmp_path: Path) -> None:
    address = f"{'amqp://u:p@' if way == 'broker' else 'http://'}127.0.0.1:{free_port()}"
    program = str(Path(__file__).parents[1] / "programs" / "fake_grader.py")
    await lonely.start("grader", sys.executable, program, address, "g1", "1", str(tmp_path / "work"), TOKEN)
    await has_logged(lonely, "grader", f"waiting for the {'broker' if way == 'broker' else 'API'}")

    assert await lonely.terminate("grader") == 0


async def test_a_hangup_opens_the_log_files_anew(lonely: Processes, tmp_path: Path) -> None:
    await lonely.service("dispatcher")
    log, old = tmp_path / "logs" / "dispatcher.log", tmp_path / "logs" / "dispatcher.log.old"
    await until(lambda: log.is_file() and "waiting for the broker" in log.read_text())
    log.rename(old)

    lonely.running["dispatcher"].send_signal(signal.SIGHUP)
    await until(lambda: log.is_file() and "waiting for the broker" in log.read_text())
    assert lonely.running["dispatcher"].returncode is None
    assert await lonely.terminate("dispatcher") == 0
