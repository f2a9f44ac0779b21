import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import PATIENCE

from broadway.local.processes import ChildError, child, free_ports, output
from broadway.local.secret import kept

IGNORES_TERM = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def test_a_child_writes_its_log_and_ends_with_its_context(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    async with child("echo", ["sh", "-c", "echo hello; exec cat /dev/zero >/dev/null"], log=log) as running:
        await eventually(lambda: "hello" in log.read_text())
        assert os.getsid(running.pid) == running.pid
    assert not alive(running.pid)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with child("deaf", [sys.executable, "-c", IGNORES_TERM], log=log, grace=0.2) as running:
        await eventually(lambda: "deaf" in log.read_text())
    assert running.process.returncode == -signal.SIGKILL


async def test_the_rest_of_a_childs_process_group_ends_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["sh", "-c", "sleep 300 & echo $!; wait"]
    async with child("parent", command, log=log, grace=5):
        await eventually(lambda: log.read_text().strip().isdigit())
        grandchild = int(log.read_text())
        assert alive(grandchild)
    await eventually(lambda: not alive(grandchild))


async def test_the_error_of_an_early_death_shows_the_log(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    log = tmp_path / "log"
    with pytest.raises(ChildError, match=r"(?s)broken ended with status 3.*log.*no such luck"):
        async with child("broken", ["sh", "-c", "echo no such luck; exit 3"], log=log) as running:
            await running.until(never, within=10)


async def test_a_child_that_is_never_ready_times_out(tmp_path: Path) -> None:
    async def hangs() -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(ChildError, match=r"slow was not ready within 0\.1 s"):
        async with child("slow", ["sleep", "300"], log=tmp_path / "log") as running:
            await running.until(hangs, within=0.1)


async def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, pathlib
from broadway.local.processes import child
async def main():
    log = pathlib.Path({str(tmp_path / "log")!r})
    async with child("orphan", ["sh", "-c", "echo up; exec sleep 300"], log=log) as running:
        async def is_up():
            return "up" in log.read_text()
        await running.until(is_up, within=60)
        print(running.pid, flush=True)
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    printed, _ = await parent.communicate()
    await eventually(lambda: not alive(int(printed)))


async def test_the_error_of_a_failed_command_shows_its_stderr() -> None:
    assert await output("echo", "yes") == "yes\n"
    with pytest.raises(Exception, match="nowhere"):
        await output("ls", "/nowhere")


def test_free_ports_differ_and_are_outside_the_range_of_client_connections() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = free_ports(20)
    assert len(set(found)) == 20
    assert not any(first <= port <= last for port in found)


def test_a_secret_is_kept_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "token"
    assert kept(path) == kept(path) == path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
