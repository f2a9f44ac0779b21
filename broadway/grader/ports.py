"""What the grader asks of a container engine, and what it learns: values and one small port."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.domain.result import Usage


class KilledFor(StrEnum):
    """Why the grader killed a stage's container."""

    TIME = "time"
    OUTPUT = "output"
    DISK = "disk"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Limits:
    """What every container gets at most, whatever its stage asks for. Sizes in bytes.

    ``disk`` is what it may write to its root file system, if to that at all; its mounts have limits of their own.
    ``runtime`` is one of the engine's, by name; None for its default one.
    """

    pids: int = 256
    output: int = 8 * 1024 * 1024
    kept_head: int = 64 * 1024
    kept_tail: int = 192 * 1024
    file_size: int = 1024 * 1024 * 1024
    disk: int = 4 * 1024 * 1024 * 1024
    cpus: float | None = None
    memory: int | None = None
    allow_network: bool = True
    allow_privileged: bool = False
    runtime: str | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The most that a file system of a job's own may hold."""

    size: int = 1024 * 1024 * 1024  # bytes
    inodes: int = 200_000


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host that a container sees at ``target``."""

    target: str
    source: Path
    read_only: bool


@dataclass(frozen=True, slots=True)
class Labels:
    """Whose container it is; orphans are found by these."""

    grader_id: str
    boot_id: str
    job_id: str
    execution_id: str
    stage: int


@dataclass(frozen=True, slots=True)
class StageRun:
    """The truth about one stage that ran.

    ``state`` is the engine's own account (docker inspect's State). ``output`` is stdout and stderr merged in order of
    arrival, each line with the engine's kind of timestamp, bounded to its head and tail; ``output_bytes`` counts all.
    ``streams`` tells whose its lines are: pairs of 1 (stdout), 2 (stderr) or 0 (a line that tells what was dropped) and
    how many lines in a row. ``usage`` is known as far as a container engine knows it.
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


class ContainerError(Exception):
    """The engine, not the student, failed. ``retryable`` tells whether another try, or grader, may succeed."""

    def __init__(self, reason: str, *, phase: FaultPhase, retryable: bool) -> None:
        super().__init__(reason)
        self.phase = phase
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A stage that is likely to run next, with what ``run`` will be given for it."""

    stage: Stage
    mounts: Sequence[Mount]
    labels: Labels


class Containers(Protocol):
    """A container engine."""

    async def ping(self) -> None:
        """Return when the engine answers.

        Raises:
            ContainerError: It does not.
        """

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        """Return when every image is on this host, pulling what is missing: how many seconds each took, by its name.

        Raises:
            ContainerError: In phase pull, naming the image.
        """

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        """Run one stage to its end in a fresh container that sees the mounts, and remove the container, soon after.

        Cancelling the call kills and removes the container before the cancellation goes on.

        Args:
            stage: What to run.
            mounts: What it sees of the host.
            labels: Whose it is.
            upcoming: Its container may be made meanwhile. If it is not run after all, it has to be dismissed.

        Raises:
            ContainerError: The engine failed, in the phase it names.
        """

    async def dismiss(self, upcoming: Upcoming) -> None:
        """Undo what has been done for a stage that does not run; nothing, if nothing has."""

    async def remove_orphans(self, is_orphan: Callable[[str, str], bool]) -> int:
        """Remove containers that dead graders left behind; how many there were.

        Args:
            is_orphan: Called with the grader's id and its life (``Labels.boot_id``).
        """
