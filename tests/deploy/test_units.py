"""Every unit, run from the wheel with the extra that its role needs: together they grade a job."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deploy.units import Supervisor, Unit, clean
from deploy.wheels import build, environment
from harness import Client, Place, free_port, until
from processes import CLUSTER_TOKEN, OPERATOR_TOKEN, Processes, processes

from broadway.cli.services import SERVICES

CONTROL = sorted(SERVICES.keys() - {"api", "grader"})


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program `broadway` of two hosts: one of the control plane, one with a grader."""
    directory = tmp_path_factory.mktemp("a host")  # with a blank
    wheel = build(directory)
    return {extra: environment(directory / extra, wheel, extra) / "broadway" for extra in ("server", "grader")}


@dataclass
class Host:
    """Starts units, with the settings that operators give in /etc/broadway."""

    running: Processes
    homes: dict[str, Path]
    credentials: dict[str, str]
    settings: dict[str, str]
    stack: contextlib.ExitStack
    supervisors: dict[str, Supervisor] = field(default_factory=dict)

    async def start(self, name: str, **settings: str) -> Supervisor:
        unit, state = Unit.read(name), self.running.directory / name
        state.mkdir()
        listener = self.stack.enter_context(Supervisor.listening(state / "notify"))
        given = unit.environment(state, self.credentials) | listener.environment | self.settings | settings
        program = self.homes["grader" if "grader" in name else "server"]
        await self.running.launch(name, unit.command(program, state), clean(given))
        return listener


@pytest.fixture
async def host(homes: dict[str, Path], place: Place, tmp_path: Path) -> AsyncIterator[Host]:
    secrets = {
        "amqp_url": place.amqp_url,
        "mongodb_dsn": place.mongodb_dsn,
        "token": CLUSTER_TOKEN,
        "grader.token": CLUSTER_TOKEN,
        "operator_token": OPERATOR_TOKEN,
    }
    databases = {name: value for name, value in place.environment.items() if name.startswith("BROADWAY_MONGODB_")}
    databases.pop("BROADWAY_MONGODB_DSN")
    with contextlib.ExitStack() as stack:
        async with processes(tmp_path / "host", {}) as running:
            yield Host(running, homes, secrets, databases, stack)


async def test_the_units_grade_a_job(host: Host, docker_host: str, busybox_image: str, tmp_path: Path) -> None:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    port = str(free_port())
    given = {"BROADWAY_BIND_PORT": port, "BROADWAY_COURSE_CONFIG": str(courses)}
    units = {name: await host.start(f"broadway@{name}", **given) for name in CONTROL}
    address = f"http://localhost:{port}"
    units["grader"] = await host.start("broadway-grader@host7", BROADWAY_API_HOST=address, DOCKER_HOST=docker_host)

    for each in units.values():
        await until(each.is_ready)
        await until(each.is_alive)
    async with Client.connect(address) as client:
        say = {"image": busybox_image, "entrypoint": ["sh", "-c", "echo $STUDENT_ID; env"], "networking": False}
        await client.register("cs241", "mp1", students=[say])
        run = await client.finished("cs241", await client.submit("cs241", "mp1", students=1))
        log = await client.get(f"grading_job_log/cs241/{run['jobs'][0]['id']}", token="staff-241")

    assert [(job["outcome"], job["grader"]) for job in run["jobs"]] == [("succeeded", "host7")]
    assert "s0" in log.json()["data"]["stdout"]
    assert "NOTIFY" not in log.json()["data"]["stdout"]
    assert "STATUS=ready" in units["grader"].read()
    assert await host.running.terminate("broadway-grader@host7") == 0


@pytest.mark.long
async def test_the_whole_control_plane_is_one_unit_too(host: Host) -> None:
    port = str(free_port())
    unit = await host.start("broadway@api", BROADWAY_BIND_PORT=port)

    await until(unit.is_ready)
    await until(unit.is_alive)
    async with Client.connect(f"http://localhost:{port}") as client:
        await until(client.is_ready)
    assert await host.running.terminate("broadway@api") == 0


async def test_a_unit_that_waits_says_for_what(host: Host) -> None:
    host.credentials["amqp_url"] = f"amqp://127.0.0.1:{free_port()}/"
    unit = await host.start("broadway@results")

    await until(lambda: any(report.startswith("STATUS=waiting for the broker") for report in unit.read()))
    await until(unit.is_alive)
    assert not unit.is_ready()
    assert await host.running.terminate("broadway@results") == 0
