"""The grader's port to a container engine: one protocol, and the values that it takes and returns."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.domain.result import Usage

NOBODY = 65534  # the kernel's overflow id, which owns no files


class KilledFor(StrEnum):
    """The reason for which the grader killed a stage's container."""

    TIME = "time"
    OUTPUT = "output"
    DISK = "disk"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits for every container; no stage can raise them. Sizes in bytes.

    ``disk`` limits writes to the root file system, if it is writable at all; mounts have limits of their own.
    ``runtime`` is the name of one of the engine's runtimes; None means its default. ``network`` is the name of
    one of its networks; None means one whose containers do not reach one another. ``allow_32_bit`` is for untrusted
    stages: all others may run 32-bit programs.
    """

    pids: int = 256
    open_files: int = 1024
    output: int = 8 * 1024 * 1024
    kept_head: int = 64 * 1024
    kept_tail: int = 192 * 1024
    file_size: int = 1024 * 1024 * 1024
    disk: int = 4 * 1024 * 1024 * 1024
    cpus: float | None = None
    memory: int | None = None
    allow_network: bool = True
    allow_privileged: bool = False
    allow_32_bit: bool = False
    allow_local_registries: bool = False
    network: str | None = None
    runtime: str | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The capacity of a file system that belongs to one job; ``files`` is the most that an untrusted stage may leave.

    Data can be dropped with the whole file system, but the files that a stage leaves are checked one by one.
    """

    size: int = 1024 * 1024 * 1024  # bytes
    inodes: int = 200_000
    files: int = 50_000


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host, mounted into a container at ``target``."""

    target: str
    source: Path
    read_only: bool


# Gets whole lines of a stage's output as they arrive, from any thread, and returns at once: the index of the stage, the
# stream, the bytes, and the time in nanoseconds since the epoch.
Listener = Callable[[int, int, bytes, int], None]


@dataclass(frozen=True, slots=True)
class Labels:
    """The owner of a container, written on it as labels; orphans are found by their labels.

    ``boot_id`` is the identity of the grader's process; see ``process_identity.own_identity``. ``deployment`` is the id
    of the grader's deployment.
    ``user`` is the number of the user and the group of its job's untrusted stages. ``listener`` is the one for the
    output of the job's stages, and no label. Nor is ``stop``, which is set once the job's outcome is no
    longer wanted: the container is then killed at once, as at a limit, so that its output is kept.
    """

    grader_id: str
    boot_id: str
    job_id: str
    execution_id: str
    stage: int
    deployment: str = ""
    user: int = NOBODY
    listener: Listener | None = field(default=None, compare=False, repr=False)
    stop: asyncio.Event | None = field(default=None, compare=False, repr=False)

    def listener_of(self, stage: Stage) -> Callable[[int, bytes, int], None] | None:
        """Return the listener for the output of the stage with these labels; None if its output is not kept."""
        return partial(self.listener, self.stage) if self.listener and stage.logs else None


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a container, read from its labels.

    Args:
        identity: The identity of the grader's process (``Labels.boot_id``).
        grader_id: The grader's id.
        deployment: The id of its deployment; empty for a container of an earlier version.
        before_boot: True if the engine runs on this host and created the container before the host's last boot.
    """

    identity: str
    grader_id: str
    deployment: str = ""
    before_boot: bool = False


@dataclass(frozen=True, slots=True)
class StageRun:
    """The record of one stage that ran.

    ``state`` is the engine's own account (docker inspect's State). ``output`` is stdout and stderr merged in order of
    arrival, each line with the engine's kind of timestamp, bounded to its head and tail; ``output_bytes`` counts all.
    ``streams`` gives the origin of its lines: pairs of 1 (stdout), 2 (stderr) or 0 (the line that reports dropped
    bytes) and a number of consecutive lines. ``usage`` holds the figures that the container engine knows.
    ``not_started`` is the reason for which the program was not executed, if that is the student's failure.
    ``suspicion`` is the error of a container whose output says that it could not execute its image's program.
    """

    exit_code: int
    killed_for: KilledFor | None
    oom_killed: bool
    started_at: datetime
    finished_at: datetime
    output: str
    output_bytes: int
    state: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    streams: Sequence[tuple[int, int]] = ()
    not_started: str = ""
    suspicion: str = ""


class ContainerError(Exception):
    """The engine failed, not the student. ``retryable`` means that another attempt, or another grader, may succeed."""

    def __init__(self, reason: str, *, phase: FaultPhase, retryable: bool) -> None:
        super().__init__(reason)
        self.phase = phase
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A stage that is likely to run next, with the arguments that ``run`` will get for it."""

    stage: Stage
    mounts: Sequence[Mount]
    labels: Labels


class Containers(Protocol):
    """A container engine."""

    async def ping(self) -> None:
        """Return once the engine has answered.

        Raises:
            ContainerError: The engine does not answer.
        """

    async def try_out(self, labels: Labels) -> None:
        """Return once a container of an image of the grader's own, which needs no registry, has run well.

        Raises:
            ContainerError: It could not be run; the cause is this grader's host.
        """

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        """Pull the missing images; return, by image name, the seconds that each took, once all are on this host.

        Raises:
            ContainerError: An image cannot be had; the phase is pull, and the text names the image.
        """

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        """Run one stage to its end in a fresh container with the given mounts; the container is removed soon after.

        Cancelling the call kills and removes the container before the cancellation propagates. Setting ``labels.stop``
        kills it, too, but the call returns its record, with the output so far.

        Args:
            stage: The stage to run.
            mounts: The files and directories of the host that it sees.
            labels: The owner of the container.
            upcoming: A stage whose container may be created meanwhile. The caller must run or dismiss that stage.

        Raises:
            ContainerError: The engine failed; the error has the phase.
        """

    async def dismiss(self, upcoming: Upcoming) -> None:
        """Remove the container that was created ahead for a stage that will not run, if there is one."""

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:
        """Remove containers that dead graders left behind; return how many were found.

        Args:
            is_orphan: Called with the owner of each container of a grader.
        """
