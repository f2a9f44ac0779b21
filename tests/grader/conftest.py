"""The two engines of the contract suite: the fake one and a real one, with an image of nothing but busybox."""

import asyncio
import io
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import docker
import pytest

from broadway.grader.containers import DockerContainers
from broadway.grader.stages import Labels, Limits

IMAGE = "broadway-test-busybox:1"
LIMITS = Limits(pids=32, output=256 * 1024, kept_head=1000, kept_tail=3000)

type_of_connect = Callable[..., AbstractAsyncContextManager[DockerContainers]]


def _image() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/busybox")
        applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in set(applets) - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def api(docker_host: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(docker_host, version="auto")
    yield client
    client.close()


@pytest.fixture(scope="session")
def busybox_image(api: docker.APIClient) -> str:
    repository, _, tag = IMAGE.partition(":")
    api.import_image_from_data(_image(), repository=repository, tag=tag)
    return IMAGE


@pytest.fixture
def connect(docker_host: str, busybox_image: str, tmp_path: Path) -> type_of_connect:  # noqa: ARG001 - it must be there
    work_dir = tmp_path / "work"
    return partial(DockerContainers.connect, slots=4, limits=LIMITS, docker_host=docker_host, work_dir=work_dir)


@pytest.fixture
async def containers(connect: type_of_connect) -> AsyncIterator[DockerContainers]:
    async with connect() as connected:
        yield connected


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    job = tmp_path / "job"
    job.mkdir()
    job.chmod(0o777)
    return job


@pytest.fixture
def labels(request: pytest.FixtureRequest) -> Labels:
    return Labels(f"g-{id(request)}", "this-boot", "job", f"execution-{id(request)}", 0)


@pytest.fixture
def ours(api: docker.APIClient, labels: Labels) -> Callable[[], list[dict[str, object]]]:
    """The containers of the test's grader that there are."""
    return lambda: api.containers(all=True, filters={"label": [f"io.broadway.grader={labels.grader_id}"]})


@pytest.fixture
async def appearing(ours: Callable[[], list[dict[str, object]]]) -> Callable[[], "asyncio.Future[None]"]:
    async def appear() -> None:
        async with asyncio.timeout(20):
            while not any(each["State"] == "running" for each in await asyncio.to_thread(ours)):
                await asyncio.sleep(0.01)

    return appear
