"""The stack of compose.yaml, on the tests' engine: started, inspected and restarted as an operator does."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

ROOT = Path(__file__).parents[2]
FILES = ROOT / "compose"
COURSE_TOKEN = "staff-of-the-demo"
STARTED = 300  # timeout in seconds; docker-compose itself waits until dependencies are healthy

KEPT = {"broadway.users", "hosts", "jobs", "locks", "spool"}  # in a work directory


@dataclass(frozen=True)
class Stack:
    """A project of docker-compose; deployments differ in ``environment`` only."""

    client: docker.APIClient
    environment: Mapping[str, str]

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.environment['BROADWAY_API_PORT']}"

    def compose(self, *arguments: str) -> str:
        """Run docker-compose, and return what it prints."""
        command = ["docker-compose", "--file", str(FILES / "compose.yaml"), *arguments]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=STARTED, cwd=FILES, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr[-4000:]}{self.logs()}"
        return done.stdout

    def down(self) -> None:
        self.compose("down", "--volumes")

    @property
    def label(self) -> dict[str, str]:
        """Return a filter for the project's objects on the engine."""
        return {"label": f"com.docker.compose.project={self.environment['COMPOSE_PROJECT_NAME']}"}

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return the project's containers by name, as the engine describes them; dependencies come first."""
        details = [
            self.client.inspect_container(each["Id"]) for each in self.client.containers(all=True, filters=self.label)
        ]
        return {each["Name"][1:]: each for each in sorted(details, key=lambda each: str(each["Created"]))}

    def is_well(self, name: str) -> bool:
        """Run a container's health check now; a container without one must have exited with 0."""
        container = self.client.inspect_container(name)
        if "Healthcheck" not in container["Config"]:
            return container["State"]["Status"] == "exited" and container["State"]["ExitCode"] == 0
        _, *command = container["Config"]["Healthcheck"]["Test"]
        with contextlib.suppress(APIError):  # it does not run yet
            return self.execute(name, *command)[0] == 0
        return False

    def execute(self, name: str, *command: str) -> tuple[int, str]:
        """Run a command in a container; return its exit code and output."""
        process = self.client.exec_create(name, command)["Id"]
        output: bytes = self.client.exec_start(process)
        return int(self.client.exec_inspect(process)["ExitCode"]), output.decode(errors="replace")

    def logs(self) -> str:
        """Return the last lines of all logs."""
        return "".join(
            f"\n--- {name}\n{self.client.logs(each['Id'], tail=15).decode(errors='replace')}"
            for name, each in self.containers().items()
        )

    def left(self) -> list[str]:
        """Return the project's objects on the engine, and the leftovers of its graders' jobs on this host.

        Graders keep a few things in their work directory: the file that stages see as /etc/hosts, locks, their
        secret, and empty directories for jobs and outcomes.
        """
        work = Path(self.environment["BROADWAY_WORK_DIR"])
        return [
            *self.containers(),
            *(each["Id"] for each in self.client.containers(all=True, filters={"label": "io.broadway.grader"})),
            *(each["Name"] for each in self.client.networks(filters=self.label)),
            *(each["Name"] for each in self.client.volumes(filters=self.label)["Volumes"] or []),
            *(line for line in Path("/proc/mounts").read_text().splitlines() if f"{work}/" in line),
            *(str(path) for path in work.glob("jobs/*/*/*")),
            *(str(path) for path in work.glob("spool/**/*") if path.is_file()),
            *(str(path) for path in work.iterdir() if path.name not in KEPT and path.suffix != ".secret"),
        ]


@contextlib.contextmanager
def work_directory(path: Path) -> Iterator[Path]:
    """Make a directory with shared mounts, as all directories are on a host with systemd."""
    path.mkdir()
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", str(path)], check=True)
        yield path
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def running(client: docker.APIClient, environment: Mapping[str, str]) -> Iterator[Stack]:
    """Run the stack with its graders, and remove all of it when the context ends."""
    stack = Stack(client, environment)
    stack.down()  # leftovers of a killed session
    try:
        stack.compose("up", "--detach")
        yield stack
    finally:
        stack.down()
