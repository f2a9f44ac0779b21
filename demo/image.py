"""The image of the assignment's stages: built once for each content, with or without a registry."""

import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound
from requests import Response
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from demo import rootfs

Say = Callable[[str], None]

HERE = Path(__file__).parent
DOCKERFILE = HERE / "image" / "Dockerfile"
ASSIGNMENT = HERE / "assignment"

NAME = "broadway-demo"
PUBLIC_BASE = "python:3.13-alpine"
ANSWER = 5.0  # seconds for a registry to answer
PULL = 120.0  # seconds for a pull
LOCAL_BASE = "broadway-demo-base"


class ImageError(Exception):
    """The image could not be built."""


class _TimedClient(docker.APIClient):
    """A client with a timeout for each piece of an answer; the SDK would wait forever for the pieces of a pull."""

    def request(self, method: str | bytes, url: str | bytes, **options: Any) -> Response:  # type: ignore[override]
        options["timeout"] = ANSWER
        return super().request(method, url, **options)


def ensure(docker_host: str, say: Say) -> str:
    """Build the image on an engine unless it exists, and return its name, which has a hash of the content."""
    client = docker.APIClient(base_url=docker_host, version="auto", timeout=120)
    name = f"{NAME}:{_fingerprint()}"
    try:
        if _has(client, name):
            say(f"Image {name} exists already.")
        else:
            _build(client, name, _base(client, docker_host, say))
            say(f"Image {name} built.")
    except (DockerException, RequestException) as error:
        raise ImageError(f"image {name}: {error}") from error
    finally:
        client.close()
    return name


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _sources() -> list[Path]:
    return [DOCKERFILE, *sorted(ASSIGNMENT.glob("*.py"))]


def _has(client: docker.APIClient, name: str) -> bool:
    try:
        client.inspect_image(name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True


def _base(client: docker.APIClient, docker_host: str, say: Say) -> str:
    if _has(client, PUBLIC_BASE) or _pull(docker_host, say):
        return PUBLIC_BASE
    name = f"{LOCAL_BASE}:{hashlib.sha256(bytes(rootfs.interpreter())).hexdigest()[:12]}"
    if not _has(client, name):
        say("No registry answers: the image's base is made from this machine's Python.")
        _import(client, name)
    return name


def _pull(docker_host: str, say: Say) -> bool:
    """Pull the public base if a registry answers soon; return whether the pull succeeded."""
    deadline = time.monotonic() + PULL
    timed = _TimedClient(base_url=docker_host, version="auto")
    try:
        for progress in timed.pull(PUBLIC_BASE, stream=True, decode=True):
            if "error" in progress or time.monotonic() > deadline:
                return False
    except (DockerException, RequestException, HTTPError):
        return False
    finally:
        timed.close()
    say(f"Pulled {PUBLIC_BASE}.")
    return True


def _import(client: docker.APIClient, name: str) -> None:
    with tempfile.TemporaryFile() as archive:
        rootfs.write(archive)
        archive.seek(0)
        client.import_image_from_data(archive, repository=LOCAL_BASE, tag=name.partition(":")[2])


def _build(client: docker.APIClient, name: str, base: str) -> None:
    context = _context()
    steps = client.build(
        fileobj=context, custom_context=True, tag=name, buildargs={"BASE": base}, rm=True, forcerm=True, decode=True
    )
    for step in steps:
        if "error" in step:
            raise ImageError(f"image {name}: {step['error']}")


def _context() -> io.BytesIO:
    """Return the build context as a tar archive, with modes and times that do not depend on the checkout."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path in _sources():
            name = path.name if path == DOCKERFILE else f"assignment/{path.name}"
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
    context.seek(0)
    return context
