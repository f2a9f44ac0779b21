"""Images from registries and archives through skopeo, a program that needs no daemon."""

import asyncio
import base64
import contextlib
import json
import os
import re
import resource
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broadway.grader.oci.places import Access, Place
from broadway.grader.sandbox.architectures import normalized

IMAGE = "image"  # the name of the one image in a layout that is copied
MAX_DOCUMENT = 4 * 1024 * 1024
_MAX_TEXT = 64 * 1024
_MAX_PASSWORD = 64 * 1024
_CHECK_INTERVAL = 0.5  # seconds between two checks of the size of a copy
_KEPT_VARIABLES = ("PATH", "HOME", "XDG_RUNTIME_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
                   "https_proxy", "no_proxy", "REGISTRY_AUTH_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR")  # fmt: skip
_POLICY = Path("/etc/containers/policy.json")
_TOO_LARGE = re.compile(r"SIGXFSZ|file too large")  # beyond the limit on a file's size
_MESSAGE = re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"')


class SkopeoError(Exception):
    """Skopeo failed; the text is its own."""


class TooLargeError(Exception):
    """An image has more data than the limit."""


@dataclass(frozen=True, slots=True)
class Skopeo:
    """Skopeo with a place of images and the access to it.

    Args:
        program: The path of skopeo.
        place: The place of images.
        access: The access to registries.
        machine: The architecture of this host, as uname names it.
        max_size: The bytes that a copy may have.
    """

    program: str
    place: Place
    access: Access
    machine: str
    max_size: int
    _environment: dict[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    )

    async def config(self, name: str, directory: Path, *, lock: int) -> bytes:
        """Return an image's config, whose SHA-256 is the image's id.

        Raises:
            SkopeoError: Skopeo failed.
        """
        arguments = ("inspect", "--config", "--raw", *self._source("", name), self.place.reference(name))
        return await self._run(arguments, directory, lock)

    async def copy(self, name: str, directory: Path, *, lock: int) -> None:
        """Copy an image into a new OCI layout at ``directory``, under the name ``IMAGE``.

        Raises:
            SkopeoError: Skopeo failed.
            TooLargeError: The image has too much data.
        """
        target = f"oci:{directory}:{IMAGE}"
        arguments = ("copy", "--quiet", *self._source("src-", name), self.place.reference(name), target)
        running = asyncio.ensure_future(self._run(arguments, directory, lock))
        try:
            while not (await asyncio.wait({running}, timeout=_CHECK_INTERVAL))[0]:
                if await asyncio.to_thread(_size, directory) > self.max_size:
                    raise TooLargeError
            await running
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, SkopeoError):
                await running

    def _source(self, prefix: str, name: str) -> Iterator[str]:
        if self.access.certificates:
            yield from (f"--{prefix}cert-dir", str(self.access.certificates))
        if not self.access.demands_tls(name):
            yield f"--{prefix}tls-verify=false"

    async def _run(self, arguments: Sequence[str], directory: Path, lock: int) -> bytes:
        """Run skopeo, which keeps the lock open: until it has ended, even without this grader, no other pull begins."""
        with self._credentials() as auth:
            command = [
                *("setpriv", "--pdeathsig", "KILL", "--", self.program),
                *("--override-os", "linux", "--override-arch", normalized(self.machine)),
                *(() if _POLICY.exists() else ("--insecure-policy",)),
                *("--tmpdir", str(directory), *arguments[:1], *self._auth_options(auth), *arguments[1:]),
            ]
            async with _started(command, (lock, *auth), self._environment, self.max_size) as process:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                assert process.stderr is not None  # noqa: S101 - it is a pipe
                output, errors = await asyncio.gather(
                    _bounded(process.stdout, MAX_DOCUMENT), _bounded(process.stderr, _MAX_TEXT)
                )
                if await process.wait():
                    text = errors.decode(errors="replace")
                    raise TooLargeError if _TOO_LARGE.search(text) else SkopeoError(_message(text))
                return output

    def _auth_options(self, auth: Sequence[int]) -> tuple[str, ...]:
        if auth:
            return ("--authfile", f"/proc/self/fd/{auth[0]}")
        return ("--authfile", str(self.access.auth_file)) if self.access.auth_file else ()

    @contextlib.contextmanager
    def _credentials(self) -> Iterator[tuple[int, ...]]:
        """Yield the descriptor of a file in memory with the user and the password, if there are any."""
        if self.access.login is None:
            yield ()
            return
        registry, user, file = self.access.login
        try:
            with file.open("rb") as opened:
                password = opened.read(_MAX_PASSWORD).rstrip(b"\r\n")
        except OSError as error:
            raise SkopeoError(f"the password file cannot be read: {error.strerror}") from error
        entry = {"auth": base64.b64encode(user.encode() + b":" + password).decode()}
        descriptor = os.memfd_create("auth", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, json.dumps({"auths": {registry: entry}}).encode())
            yield (descriptor,)
        finally:
            os.close(descriptor)


@contextlib.asynccontextmanager
async def _started(
    command: Sequence[str], descriptors: Sequence[int], environment: dict[str, str], max_size: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program in a session of its own; at the end of the context it has ended, with all that it started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (max_size, max_size))
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _bounded(stream: asyncio.StreamReader, limit: int) -> bytes:
    """Return the first bytes of a stream, and read the rest."""
    kept = bytearray()
    while data := await stream.read(64 * 1024):
        kept += data[: limit - len(kept)]
    return bytes(kept)


def _message(text: str) -> str:
    found = _MESSAGE.findall(text)
    return (found[-1].replace('\\"', '"').replace("\\\\", "\\") if found else text.strip() or "it ended early")[:2000]


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat(follow_symlinks=False).st_blocks * 512
    return total
