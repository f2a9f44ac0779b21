"""The images of the exercise's stages: built once for each content, with or without a registry."""

import contextlib
import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
SOLVER, JUDGE = HERE / "solver", HERE / "assignment"  # the scripts of untrusted stages and of trusted ones

NAME = "broadway-demo"
PUBLIC_BASE = "python:3.13-alpine"
ANSWER = 5.0  # seconds for a registry to answer
PULL = 120.0  # seconds for a pull
LOCAL_BASE = "broadway-demo-base"
AUTOGRADER_BASE = "broadway-demo-autograder-base"


class ImageError(Exception):
    """The image could not be built."""


class _TimedClient(docker.APIClient):
    """A client with a timeout for each piece of an answer; the SDK would wait forever for the pieces of a pull."""

    def request(self, method: str | bytes, url: str | bytes, **options: Any) -> Response:  # type: ignore[override]
        options["timeout"] = ANSWER
        return super().request(method, url, **options)


@dataclass(frozen=True)
class Images:
    """The names of the images: that of untrusted stages has no solution in it."""

    solver: str
    judge: str


def ensure(docker_host: str, say: Say) -> Images:
    """Build the images on an engine unless they exist, and return their names, which have hashes of the contents."""
    with _client(docker_host) as client:
        solver, judge = (_ensure(client, docker_host, scripts, say) for scripts in (SOLVER, JUDGE))
    return Images(solver, judge)


def ensure_autograder_base(docker_host: str, say: Say) -> str:
    """Make a base for autograders from this machine's Python, bash and busybox unless it exists; return its name."""
    name = f"{AUTOGRADER_BASE}:{rootfs.digest()}"
    with _client(docker_host) as client:
        if not _has(client, name):
            say("A base for the autograder is made from this machine's Python, bash and busybox.")
            _import(client, name, shells=True)
    return name


def exists(docker_host: str, name: str) -> bool:
    """Return whether an engine has an image."""
    with _client(docker_host) as client:
        return _has(client, name)


@contextlib.contextmanager
def _client(docker_host: str) -> Iterator[docker.APIClient]:
    """Connect to an engine; turn its errors within the context into ImageErrors."""
    try:
        client = docker.APIClient(base_url=docker_host, version="auto", timeout=120)
        with contextlib.closing(client):
            yield client
    except (DockerException, RequestException, OSError) as error:
        raise ImageError(f"the images: {error}") from error


def _ensure(client: docker.APIClient, docker_host: str, scripts: Path, say: Say) -> str:
    name = f"{NAME}-{scripts.name}:{_fingerprint(scripts)}"
    if _has(client, name):
        say(f"Image {name} exists already.")
    else:
        _build(client, name, scripts, _base(client, docker_host, say))
        say(f"Image {name} built.")
    return name


def _fingerprint(scripts: Path) -> str:
    digest = hashlib.sha256()
    for path in _sources(scripts):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _sources(scripts: Path) -> list[Path]:
    return [DOCKERFILE, *sorted(scripts.glob("*.py"))]


def _has(client: docker.APIClient, name: str) -> bool:
    try:
        client.inspect_image(name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True


def _base(client: docker.APIClient, docker_host: str, say: Say) -> str:
    if _has(client, PUBLIC_BASE) or _pull(docker_host, say):
        return PUBLIC_BASE
    name = f"{LOCAL_BASE}:{rootfs.digest()}"
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


def _import(client: docker.APIClient, name: str, *, shells: bool = False) -> None:
    repository, _, tag = name.partition(":")
    with tempfile.TemporaryFile() as archive:
        rootfs.write(archive, shells=shells)
        archive.seek(0)
        client.import_image_from_data(archive, repository=repository, tag=tag)


def _build(client: docker.APIClient, name: str, scripts: Path, base: str) -> None:
    context = _context(scripts)
    steps = client.build(
        fileobj=context, custom_context=True, tag=name, buildargs={"BASE": base}, rm=True, forcerm=True, decode=True
    )
    for step in steps:
        if "error" in step:
            raise ImageError(f"image {name}: {step['error']}")


def _context(scripts: Path) -> io.BytesIO:
    """Return the build context as a tar archive, with modes and times that do not depend on the checkout."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path in _sources(scripts):
            name = path.name if path == DOCKERFILE else f"scripts/{path.name}"
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
    context.seek(0)
    return context
