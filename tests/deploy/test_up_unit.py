"""`broadway up` as its unit starts it, with a broker and a store of its own, and the commands beside it."""

import contextlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryFile

from deploy.units import Supervisor, Unit, clean
from forks import fork_server
from harness import free_port, until
from processes import processes

PROGRAM = Path(sys.executable).with_name("broadway")
START = 120  # seconds, for a broker on a busy machine
# Commands with their last words, in an environment that has only the directory.
COMMANDS = {
    "course add cs101": "course cs101 is added",
    "course list": "cs101",
    "course token add Ada -c cs101": "bwc_",
    "topology check": "the broker has all that it should have",
    "pool list": "default",
    "queue list": "broadway.results",
    "grader list": "online",
    "doctor": "default has 1 live graders",
}


async def test_commands_beside_it_need_no_environment(tmp_path: Path, docker_host: str) -> None:
    unit, state, port = Unit.read("broadway-up"), tmp_path / "state", str(free_port())
    (state / "broadway-up").mkdir(parents=True)
    home = clean({"BROADWAY_UP": str(state / "broadway-up")})

    async def said(line: str) -> tuple[int, str]:
        with TemporaryFile() as output:
            process = await fork_server().start(
                ("-m", "broadway", *line.split()), environment=home, directory=tmp_path, stdout=output, stderr=output
            )
            status = await process.wait()
            output.seek(0)
            return status, output.read().decode()

    with contextlib.ExitStack() as stack:
        systemd = stack.enter_context(Supervisor.listening(tmp_path / "notify"))
        given = unit.environment(state, {}) | systemd.environment | {"DOCKER_HOST": docker_host}
        async with processes(tmp_path / "host", {}) as running:
            await running.launch("up", [*unit.command(PROGRAM, state), "--bind-port", port], clean(given))
            await until(systemd.is_ready, within=START)
            await until(systemd.is_alive)

            async def is_online() -> bool:
                return "online" in (await said("grader list"))[1]

            await until(is_online)
            for line, expected in COMMANDS.items():
                status, output = await said(line)
                assert (status, expected in output) == (0, True), f"{line}\n{output}"
            assert await running.terminate("up") == 0
            log = running.log("up")

    assert "they finish or give back their running jobs (none) within 60 s." in log
    assert log.rstrip().endswith("Stopped.")
    assert json.loads((state / "broadway-up" / "ports.json").read_text()).keys() >= {"broker", "store"}
