"""The second exercise's autograder: a zip as Gradescope takes it, and the image that Broadway builds of it."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from demo import image, rootfs

SOURCE = Path(__file__).parent / "words" / "autograder"
ARCHIVE = "autograder.zip"
NAME = "broadway-demo-words"


def ensure(docker_host: str, directory: Path, say: image.Say) -> str:
    """Write the zip, build its image on an engine unless it exists, and return the image's name."""
    archive = directory / ARCHIVE
    write(archive)
    name = f"{NAME}:{hashlib.sha256(archive.read_bytes() + rootfs.digest().encode()).hexdigest()[:12]}"
    if image.exists(docker_host, name):
        say(f"Image {name} exists already.")
        return name
    base = image.ensure_autograder_base(docker_host, say)
    options = (str(archive), "--base", base, "--tag", name, "--network", "none")
    command = [str(Path(sys.executable).with_name("broadway")), "assignment", "build-gradescope", *options]
    environment = {**os.environ, "DOCKER_HOST": docker_host, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise image.ImageError(f"image {name}: {done.stderr.strip()[-2000:]}")
    say(f"Image {name} built: broadway {' '.join(command[1:3])} {archive} --base {base} --tag {name}")
    return name


def write(archive: Path) -> None:
    """Write the zip; equal files make equal bytes."""
    with zipfile.ZipFile(archive, "w") as target:
        for name, path in sorted(_files()):
            target.writestr(zipfile.ZipInfo(name), path.read_bytes())


def _files() -> Iterator[tuple[str, Path]]:
    """Yield the autograder's files, and those of the package that its setup installs."""
    found = importlib.util.find_spec("gradescope_utils")
    if found is None or found.origin is None:
        raise image.ImageError("the package gradescope-utils is not installed: run `make setup`")
    package = Path(found.origin).parent
    yield from ((path.relative_to(SOURCE).as_posix(), path) for path in SOURCE.rglob("*") if _is_source(path))
    for path in package.rglob("*.py"):
        yield f"vendor/{path.relative_to(package.parent).as_posix()}", path


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts
