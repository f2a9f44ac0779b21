"""A real container engine with an image of nothing but busybox, and what is known of its containers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
import pytest

from broadway.grader.containers import DockerContainers
from broadway.grader.stages import Labels, Limits

Connect = Callable[..., AbstractAsyncContextManager[DockerContainers]]


@pytest.fixture
def connect(limits: Limits, docker_host: str, busybox_image: str, tmp_path: Path) -> Connect:  # noqa: ARG001 - it must be there
    work_dir = tmp_path / "work"
    return partial(DockerContainers.connect, slots=4, limits=limits, docker_host=docker_host, work_dir=work_dir)


@pytest.fixture
async def containers(connect: Connect) -> AsyncIterator[DockerContainers]:
    async with connect() as connected:
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
    """The containers of the test's grader that there are, in whatever state."""
    return lambda: api.containers(all=True, filters={"label": [f"io.broadway.grader={labels.grader_id}"]})
