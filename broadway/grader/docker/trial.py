"""An image of the grader's own, without files: the engine's init is the only program in its containers."""

import io
import tarfile
from collections.abc import Callable

from docker.errors import ImageNotFound

from broadway.domain.assignment import Stage
from broadway.grader.docker.engine import Client
from broadway.grader.sandbox.programs import INIT

IMAGE = "broadway-self-check:1"
STAGE = Stage(image=IMAGE, entrypoint=[INIT, "--version"], untrusted=True, timeout=30)


def make_image(client: Client) -> None:
    """Make the image unless the engine has it; blocks."""
    inspect: Callable[[str], object] = client.inspect_image
    try:
        inspect(IMAGE)
    except ImageNotFound:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w"):
            pass
        repository, _, tag = IMAGE.partition(":")
        client.import_image_from_data(archive.getvalue(), repository=repository, tag=tag)
