"""The stack, started once for all tests of this directory: its images, its secrets and its graders' directory."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from compose.stack import COURSE_TOKEN, FILES, Stack, running, work_directory
from harness import free_port

from compose import stand_ins
from demo.pipelines import COURSE

PATIENCE = 240  # timeout in seconds between two steps of a build, which downloads packages


@pytest.fixture(scope="session")
def builder(docker_host: str) -> Iterator[docker.APIClient]:
    with contextlib.closing(docker.APIClient(docker_host, version="auto", timeout=PATIENCE)) as client:
        yield client


@pytest.fixture(scope="session")
def base_image(builder: docker.APIClient) -> Iterator[str]:
    with stand_ins.base(builder) as name:
        yield name


@pytest.fixture(scope="session")
def broadway_image(builder: docker.APIClient, base_image: str) -> str:
    assert base_image
    return stand_ins.broadway(builder)


@pytest.fixture(scope="session")
def broker_and_store(builder: docker.APIClient, base_image: str) -> Iterator[None]:
    with stand_ins.broker_and_store(builder, base_image):
        yield


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the secrets as an operator does, but without a replica set: the stand-in store has none of that name."""
    made = tmp_path_factory.mktemp("secrets")
    subprocess.run([FILES / "make-secrets", made], check=True, capture_output=True)
    dsn, courses = made / "mongodb_dsn", made / "courses.json"
    courses.chmod(0o644)
    courses.write_text(json.dumps({COURSE: {"tokens": [COURSE_TOKEN]}}))
    dsn.chmod(0o644)
    dsn.write_text(dsn.read_text().replace("replicaSet=rs0", "directConnection=true&retryWrites=false"))
    return made


@pytest.fixture(scope="session")
def environment(
    broadway_image: str, docker_host: str, secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The variables that an operator would set in .env."""
    with work_directory(tmp_path_factory.mktemp("graders") / "work") as work:
        yield {
            "DOCKER_HOST": docker_host,
            "DOCKER_SOCKET": docker_host.removeprefix("unix://"),
            "COMPOSE_PROJECT_NAME": "broadway-test",
            "COMPOSE_PROFILES": "graders",
            "BROADWAY_IMAGE": broadway_image,
            "BROADWAY_GRADER_ID": "host1",
            "BROADWAY_API_HOST": "http://ingest:1470",
            "BROADWAY_API_PORT": str(free_port()),
            "BROADWAY_BROKER_PORT": str(free_port()),
            "BROADWAY_MANAGEMENT_PORT": str(free_port()),
            "BROADWAY_SECRETS": str(secrets),
            "BROADWAY_WORK_DIR": str(work),
            "BROADWAY_SLOTS": "2",
            "BROADWAY_DRAIN_TIMEOUT": "5",
        }


@pytest.fixture(scope="session")
def stack(api: docker.APIClient, broker_and_store: None, environment: dict[str, str]) -> Iterator[Stack]:
    assert broker_and_store is None
    with running(api, environment) as started:
        yield started
