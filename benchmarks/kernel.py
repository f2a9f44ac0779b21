"""The kernel's part of a stage: namespaces, mounts and control groups for a program, without a runtime and a filter.

It confines nothing: it is the floor for runtimes, not a runtime.
"""

import asyncio
import io
import itertools
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from benchmarks.images import busybox
from benchmarks.runtimes import FailedError
from broadway.grader.oci.groups import group, prepare
from broadway.grader.oci.images import mount_overlay
from broadway.grader.sandbox import kernel
from broadway.runtime.threads import in_own_thread

_LIMITS = {"mem_limit": 100 * 2**20, "memswap_limit": 100 * 2**20, "pids_limit": 128, "cpu_shares": 128}
_NAMESPACES = kernel.Unshare(0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000)  # all but mounts and users
_GONE_WITHIN = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Kernel:
    """Programs of busybox on an overlay, each in a directory below ``directory``, with their output in a pipe."""

    image: Path
    directory: Path
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    def prepared(cls, directory: Path) -> Self:
        """Unpack the image below ``directory``, and create the parent groups."""
        prepare()
        with tarfile.open(fileobj=io.BytesIO(busybox())) as archive:
            archive.extractall(directory / "image", filter="fully_trusted")  # noqa: S202 - the archive is our own
        return cls(directory / "image", directory)

    async def stage(self, *command: str) -> None:
        """See ``Runtime``."""
        name = f"bench-floor-{os.getpid()}-{next(self._numbers)}"
        own = group(name)
        place = self.directory / name
        place.mkdir()
        own.create(_LIMITS)
        code = await in_own_thread(partial(self._run, name, command), name=name)
        await asyncio.to_thread(own.remove, within=_GONE_WITHIN)
        place.rmdir()
        if code:
            raise FailedError(f"{command[0]}: exit code {code}")

    async def job(self, *commands: Sequence[str]) -> None:
        """See ``Runtime``."""
        for command in commands:
            await self.stage(*command)

    def _run(self, name: str, command: Sequence[str]) -> int:
        place = self.directory / name
        kernel.own_mounts()
        kernel.mount("bench", str(place), "tmpfs", kernel.Mounting.NODEV, "size=64m")
        for part in ("root", "upper", "work"):
            (place / part).mkdir()
        mount_overlay([self.image], place / "root", upper=place / "upper", work=place / "work")
        kernel.unshare(_NAMESPACES)
        group(name).enter()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        program, output = place / "root" / "bin" / command[0], [(os.POSIX_SPAWN_DUP2, writer, 1)]
        pid = os.posix_spawn(program, [*command], {}, file_actions=output)
        os.close(writer)
        while os.read(reader, 4096):
            pass
        os.close(reader)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
