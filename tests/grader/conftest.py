"""A real container engine with only a busybox image, and fixtures to inspect its containers."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
import pytest

from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.container import owner
from broadway.grader.oci.containers import OciContainers
from broadway.grader.oci.host import OF_RUNTIME, STATE
from broadway.grader.ports import Labels, Limits

Connect = Callable[..., AbstractAsyncContextManager[DockerContainers | OciContainers]]


@pytest.fixture
def connect(limits: Limits, docker_host: str, busybox_image: str, tmp_path: Path) -> Connect:  # noqa: ARG001 - the image must exist
    work_dir = tmp_path / "work"
    return partial(DockerContainers.connect, slots=4, limits=limits, docker_host=docker_host, work_dir=work_dir)


@pytest.fixture(params=["docker", "oci"])
def kind(request: pytest.FixtureRequest) -> str:
    """The real runtime in use."""
    return str(request.param)


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory for unpacked images."""
    return tmp_path_factory.mktemp("unpacked")


@pytest.fixture
def connect_oci(limits: Limits, docker_host: str, busybox_image: str, unpacked: Path) -> Connect:  # noqa: ARG001 - the image must exist
    return partial(OciContainers.connect, slots=4, limits=limits, docker_host=docker_host, work_dir=unpacked)


@pytest.fixture
async def containers(
    kind: str, connect: Connect, connect_oci: Connect
) -> AsyncIterator[DockerContainers | OciContainers]:
    made = connect() if kind == "docker" else connect_oci()
    async with made as connected:
        yield connected


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    job = tmp_path / "job"
    job.mkdir()
    job.chmod(0o777)
    return job


@pytest.fixture
def labels() -> Labels:
    name = token_hex(6)
    return Labels(f"grader-{name}", "this-life", "job", f"execution-{name}", 0)


@pytest.fixture
def left(api: docker.APIClient, labels: Labels) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns the containers of the test's grader, in any state."""

    def left() -> list[dict[str, Any]]:
        of_engine = api.containers(all=True, filters={"label": [f"io.broadway.grader={labels.grader_id}"]})
        return [*of_engine, *_of_runtime(labels.grader_id)]

    return left


def _of_runtime(grader_id: str) -> Iterator[dict[str, Any]]:
    for directory in STATE.glob("*"):
        found = owner(directory)
        if found and found.grader_id == grader_id:
            runs = (OF_RUNTIME / directory.name / "status").exists()
            yield {"Id": directory.name, "State": "running" if runs else "created"}
