"""Stand-ins for the images of compose.yaml, built here because there is no registry."""

import contextlib
import hashlib
import json
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from compose import debian

HERE = Path(__file__).parent / "stand-ins"
ROOT = Path(__file__).parents[2]
KEPT = "broadway-stand-in"  # repository in which the images stay between sessions

PYTHON = "python:3.13.9-slim-bookworm"
RABBITMQ = "rabbitmq:4.2.9-management"
MONGO = "mongo:8.0.17"

LABEL = "io.broadway.stand-in"  # on the base, and so on all images built from it

PACKAGES = (
    *("base-files", "bash", "coreutils", "dash", "findutils", "grep", "libc-bin", "mount", "passwd", "python3", "sed"),
    "rabbitmq-server",
)
USERS = {"root": 0, "nobody": 65534, "rabbitmq": 999, "mongodb": 998}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CONFIGURATION = (Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf").expanduser())


@contextlib.contextmanager
def base(client: docker.APIClient) -> Iterator[str]:
    """Build the base of all other images; within the context it has the name of Python's image."""
    name = f"{KEPT}:base-{_fingerprint()}"
    if not _has(client, name):
        _import(client, name)
    with _named(client, name, PYTHON):
        yield name


def broadway(client: docker.APIClient) -> str:
    """Build Broadway's own image from its Dockerfile."""
    return _build(client, ROOT, "compose/Dockerfile", "broadway")


@contextlib.contextmanager
def broker_and_store(client: docker.APIClient, base: str) -> Iterator[None]:
    """Provide the images that compose.yaml pulls, within the context."""
    mongo = _build(client, HERE / "mongo", "Dockerfile", "mongo", BASE=base, SECANTUSDB=version("secantusdb"))
    rabbitmq = _build(client, HERE / "rabbitmq", "Dockerfile", "rabbitmq", BASE=base)
    with _named(client, mongo, MONGO), _named(client, rabbitmq, RABBITMQ):
        yield


@contextlib.contextmanager
def _named(client: docker.APIClient, image: str, name: str) -> Iterator[None]:
    """Tag an image within the context, unless the engine has the real image of that name."""
    if _has(client, name) and LABEL not in (client.inspect_image(name)["Config"]["Labels"] or {}):
        yield
        return
    client.tag(image, *name.split(":"))
    try:
        yield
    finally:
        client.remove_image(name, noprune=True)


def _has(client: docker.APIClient, name: str) -> bool:
    with contextlib.suppress(ImageNotFound):
        return bool(client.inspect_image(name))
    return False


def _build(client: docker.APIClient, context: Path, dockerfile: str, name: str, **arguments: str) -> str:
    """Build an image with the engine's builder, whose cache makes all later builds quick."""
    tag = f"{KEPT}:{name}"
    steps = client.build(
        path=str(context), dockerfile=dockerfile, tag=tag, buildargs=arguments, rm=True, forcerm=True, decode=True
    )
    output = list(steps)
    assert "error" not in output[-1], "".join(step.get("stream", "") for step in output)[-4000:] + str(output[-1])
    return tag


def _fingerprint() -> str:
    """Return a hash of all inputs of the base."""
    versions = subprocess.run(["dpkg-query", "-W"], capture_output=True, check=True).stdout
    made = [Path(__file__).read_bytes(), Path(debian.__file__).read_bytes(), versions, json.dumps(_texts()).encode()]
    return hashlib.sha256(b"\0".join(made)).hexdigest()[:12]


def _texts() -> dict[str, str]:
    """Return the files with users and groups, and this machine's certificates and pip configuration."""
    passwd = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in USERS.items())
    group = "".join(f"{name}:x:{number}:\n" for name, number in USERS.items())
    copied = [path for path in (CERTIFICATES, *PIP_CONFIGURATION) if path.is_file()]
    return {"etc/passwd": passwd, "etc/group": group} | {str(path)[1:]: path.read_text() for path in copied}


def _import(client: docker.APIClient, name: str) -> None:
    pip = Path(sysconfig.get_path("purelib"), "pip")
    links = {"usr/bin/python": "python3"}
    changes = [f"LABEL {LABEL}=yes", *(f"ENV {key}={value}" for key, value in os.environ.items() if key[:4] == "PIP_")]
    with tempfile.TemporaryFile() as archive:
        debian.write(archive, PACKAGES, texts=_texts(), links=links, trees={pip: "usr/lib/python3/dist-packages/pip"})
        archive.seek(0)
        repository, tag = name.split(":")
        client.import_image(archive, repository=repository, tag=tag, changes=changes)
