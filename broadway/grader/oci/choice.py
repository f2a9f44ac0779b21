"""The choice of a container runtime from facts about a host: a pure decision, with a sentence for each reason."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from broadway.domain.job import FaultPhase
from broadway.grader.ports import ContainerError

AUTO, OCI, DOCKER = "auto", "oci", "docker"
MIN_DISK = 1024**3  # bytes of free disk for unpacked images
_ADVANTAGE = "starts stages without an engine"


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a host, as far as they are known.

    Args:
        program: The name or path of crun.
        version: The first line of its answer to ``--version``; None if the program is missing.
        is_crun: True if it is crun, built with seccomp.
        is_root: True if this process is root's.
        may_mount: True if this process may mount.
        init: The program that reaps processes; None if it is missing.
        groups: The reason for which the control groups cannot be used; empty if they can.
        overlay: The reason for which no overlay can be mounted; empty if it can.
        seccomp: The reason for which the filter of system calls cannot be made; empty if it can.
        free_disk: The free bytes where images are unpacked; None if unknown.
        trial: The reason for which a container of the grader's own did not run; empty if it ran, or was not tried.
    """

    program: str = "crun"
    version: str | None = None
    is_crun: bool = False
    is_root: bool = True
    may_mount: bool = True
    init: str | None = None
    groups: str = ""
    overlay: str = ""
    seccomp: str = ""
    free_disk: int | None = None
    trial: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A runtime, and the reason for it; ``needs`` has the shortcomings of the host."""

    runtime: str
    reason: str
    needs: tuple[str, ...] = field(default=())

    @property
    def setting(self) -> str | None:
        """The value of a grader's ``--runtime``; None for the engine's default."""
        return None if self.runtime == DOCKER else self.runtime

    def __str__(self) -> str:
        return f"{self.runtime} ({self.reason})" if self.runtime == OCI else f"{self.runtime}, {self.reason}"


def choose(wish: str, facts: Facts) -> Choice:
    """Return the runtime for a wish: ``auto``, ``oci``, ``docker``, or the name of one of an engine's runtimes.

    Raises:
        ContainerError: The wish is ``oci``, and the host lacks something for it; the text names all of it.
    """
    if wish == DOCKER:
        return Choice(DOCKER, "as --runtime says")
    if wish not in {AUTO, OCI}:
        return Choice(wish, "one of the engine's runtimes, as --runtime says")
    needs = tuple(shortcomings(facts))
    if not needs:
        return Choice(OCI, _ADVANTAGE)
    if wish == OCI:
        raise missing("; ".join(needs))
    return Choice(DOCKER, f"because {'; '.join(needs)}", needs)


def missing(reason: str) -> ContainerError:
    return ContainerError(f"--runtime {OCI}: {reason}", phase=FaultPhase.CREATE, retryable=False)


def shortcomings(facts: Facts) -> Iterator[str]:
    """Yield a sentence for each thing that a host lacks for the runtime oci."""
    yield from _of_programs(facts)
    if not (facts.is_root and facts.may_mount):
        yield "the grader must be root, with the right to mount"
    yield from filter(None, (facts.seccomp, facts.groups, facts.overlay))
    if facts.free_disk is not None and facts.free_disk < MIN_DISK:
        free = facts.free_disk / MIN_DISK
        yield f"only {free:.1f} GiB of disk are free for unpacked images, and 1 GiB is needed"
    if facts.trial:
        yield f"a container of the grader's own did not run: {facts.trial}"


def _of_programs(facts: Facts) -> Iterator[str]:
    if facts.version is None:
        yield f"there is no {facts.program}: the package crun has it"
    elif not facts.is_crun:
        yield f"{facts.program} is not crun, built with seccomp: it says {facts.version or 'nothing'}"
    if facts.init is None:
        yield "there is no docker-init: the package tini has it"
