"""Programs from the fork server behave as if they were started afresh.

This tests the way in which other tests start processes.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from forks import PATH, Forked, fork_server, running
from harness import until

from broadway.runtime import fault_history

Start = Callable[..., Awaitable[Forked]]
PROGRAM = """
import atexit, json, os, sys
from pathlib import Path

atexit.register(lambda: Path("at-exit").touch())
print(json.dumps([__name__, sys.argv, os.getcwd(), os.environ["GIVEN"], "HOME" in os.environ]))
print("to stderr", file=sys.stderr)
match sys.argv[1]:
    case "exit": sys.exit(3)
    case "raise": raise ValueError("why")
    case "note":
        from broadway.runtime import fault_history
        fault_history.arm(os.environ)
        fault_history.note("submitted")
    case "wait":
        import threading
        threading.Event().wait()
"""
SESSION = """
import os
from forks import running

running().__enter__()
print("open", flush=True)
os._exit(0)
"""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    async def started(*arguments: str, **environment: str) -> Forked:
        with (tmp_path / "out").open("wb") as stdout, (tmp_path / "err").open("wb") as stderr:
            return await fork_server().start(
                [str(program), *arguments],
                environment={"GIVEN": "yes", **environment},
                directory=tmp_path,
                stdout=stdout,
                stderr=stderr,
            )

    return started


async def test_a_program_has_its_own_arguments_directory_variables_and_output(start: Start, tmp_path: Path) -> None:
    process = await start("exit", "twice")

    assert await process.wait() == process.returncode == 3
    program = str(tmp_path / "program.py")
    expected = f'["__main__", ["{program}", "exit", "twice"], "{tmp_path}", "yes", false]\n'
    assert (tmp_path / "out").read_text() == expected
    assert (tmp_path / "err").read_text() == "to stderr\n"
    assert (tmp_path / "at-exit").exists()


async def test_an_error_is_printed_and_ends_the_program_with_1(start: Start, tmp_path: Path) -> None:
    assert await (await start("raise")).wait() == 1
    assert (tmp_path / "err").read_text().endswith("\nValueError: why\n")


async def test_signals_reach_a_program_by_its_process_id(start: Start, tmp_path: Path) -> None:
    process = await start("wait")
    await until((tmp_path / "out").read_text)
    assert process.returncode is None

    os.kill(process.pid, signal.SIGKILL)

    assert await process.wait() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


async def test_the_fault_history_is_armed_by_the_programs_own_variables(start: Start, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert await (await start("note", **{fault_history.VARIABLE: str(history)})).wait() == 0
    assert len(history.read_text().splitlines()) == 1

    assert await (await start("note")).wait() == 0
    assert len(history.read_text().splitlines()) == 1


async def test_programs_die_with_their_server(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with running() as server, (tmp_path / "out").open("wb") as out:
        process = await server.start(
            [str(program), "wait"], environment={"GIVEN": ""}, directory=tmp_path, stdout=out, stderr=out
        )
        await until((tmp_path / "out").read_text)

    await until(lambda: not Path(f"/proc/{process.pid}").exists())
    with pytest.raises(AssertionError, match="the fork server has died"):
        await process.wait()


def test_a_server_dies_with_its_session() -> None:
    """The server shares the session's output, so the command ends only when both have ended."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        env={**os.environ, "PYTHONPATH": PATH},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"open\n"


async def test_a_program_whose_start_is_cancelled_is_killed(start: Start) -> None:
    assert await (await start("exit")).wait() == 3
    before = _descendants()
    starting = asyncio.create_task(start("wait"))
    await asyncio.sleep(0)  # it sends its request before it waits
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert await (await start("exit")).wait() == 3  # requests are served in order
    assert _descendants() == before


def _descendants() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}
