"""An orphan is only what a process that is known to have ended has left, in whichever deployment."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_containers import FakeContainers

from broadway.grader.ports import Owner
from broadway.grader.sandbox.process_identity import own_identity
from broadway.grader.worker.orphans import Orphans

BOOT, NAMESPACE, *PROCESS = own_identity().split(".")
ELSEWHERE = ".".join([BOOT, "1", *PROCESS])  # in another PID namespace
REBOOTED = ".".join(["another-boot", NAMESPACE, *PROCESS])
ENDED = f"{BOOT}.{NAMESPACE}.4194305.1"  # above the highest process id


class Engine(FakeContainers):
    """An engine that has one container for each of these owners."""

    def __init__(self, *owners: Owner) -> None:
        super().__init__()
        self.owners = list(owners)

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:
        before = len(self.owners)
        self.owners = [owner for owner in self.owners if not is_orphan(owner)]
        return before - len(self.owners)


def leave(jobs: Path, identity: str, *, deployment: str = "d1", grader: str = "g1") -> Path:
    """Create the directory of a process, with one job in it."""
    directory = jobs / deployment / grader / identity
    (directory / "e1" / "job").mkdir(parents=True)
    return directory


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """The directory of a living process of another PID namespace."""
    directory = leave(tmp_path, ELSEWHERE)
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield directory
    os.close(descriptor)


@pytest.mark.parametrize("deployment", ["d1", "another", ""])
@pytest.mark.parametrize("grader", ["g1", "another"])
async def test_what_a_living_process_runs_stays_even_under_this_graders_id(
    tmp_path: Path, deployment: str, grader: str
) -> None:
    living = [Owner(own_identity(), grader, deployment), Owner(_parent(), grader, deployment)]
    directories = [leave(tmp_path, owner.identity, deployment=deployment or "d", grader=grader) for owner in living]
    engine = Engine(*living)

    await Orphans(engine, tmp_path, tmp_path / "own").reap()

    assert engine.owners == living
    assert all((directory / "e1").exists() for directory in directories)


@pytest.mark.parametrize("deployment", ["d1", "another", ""])
async def test_what_an_ended_process_left_is_removed(tmp_path: Path, deployment: str) -> None:
    directory = leave(tmp_path, ENDED, deployment=deployment or "d")
    engine = Engine(Owner(ENDED, "g1", deployment))

    await Orphans(engine, tmp_path, tmp_path / "own").reap()

    assert engine.owners == []
    assert not directory.exists()


async def test_a_process_of_another_namespace_is_alive_while_it_holds_its_directory(
    tmp_path: Path, locked: Path
) -> None:
    engine = Engine(Owner(ELSEWHERE, "g1", "d1"))
    await Orphans(engine, tmp_path, tmp_path / "own").reap()
    assert len(engine.owners) == 1
    assert (locked / "e1").exists()


async def test_a_process_of_another_namespace_has_ended_when_its_directory_is_free(tmp_path: Path) -> None:
    directory = leave(tmp_path, ELSEWHERE)
    engine = Engine(Owner(ELSEWHERE, "g1", "d1"))

    await Orphans(engine, tmp_path, tmp_path / "own").reap()

    assert engine.owners == []
    assert not directory.exists()


@pytest.mark.parametrize("identity", [ELSEWHERE, REBOOTED], ids=["elsewhere", "rebooted"])
async def test_a_container_of_an_unknown_process_stays_unless_its_host_was_rebooted(
    tmp_path: Path, identity: str
) -> None:
    """Another host's graders may use the same engine, with the same id in another deployment."""
    unknown = Owner(identity, "g1", "d1")
    engine = Engine(unknown, Owner(identity, "g1", "d1", before_boot=True), Owner(identity, "g1", before_boot=True))

    await Orphans(engine, tmp_path, tmp_path / "own").reap()

    assert engine.owners == [unknown]


@pytest.mark.parametrize(
    ("identity", "stays"),
    [(ENDED, False), (REBOOTED, False), (ELSEWHERE, True)],
    ids=["ended", "rebooted", "elsewhere"],
)
async def test_directories_of_an_earlier_version_are_removed_if_their_process_has_ended(
    tmp_path: Path, identity: str, *, stays: bool
) -> None:
    directory = tmp_path / identity
    (directory / "e1").mkdir(parents=True)

    await Orphans(Engine(), tmp_path, tmp_path / "own").reap()

    assert directory.exists() is stays


HOLD = """
import sys
from pathlib import Path
from broadway.grader.worker.work_directory import WorkDirectory
with WorkDirectory(Path(sys.argv[1]), "d1", "g1").process_directory() as directory:
    (directory / "e1").mkdir()
    print(directory, flush=True)
    input()
"""


async def test_a_killed_process_leaves_its_directory_to_the_next(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - it answers at once
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        directory = Path(child.stdout.readline().strip())
        await Orphans(Engine(), tmp_path / "jobs", tmp_path / "own").reap()
        assert (directory / "e1").exists()
        child.kill()

    await Orphans(Engine(), tmp_path / "jobs", tmp_path / "own").reap()
    assert not directory.exists()


def _parent() -> str:
    """Return the identity of a living process that is not this one."""
    parent = os.getppid()
    start_time = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{BOOT}.{NAMESPACE}.{parent}.{start_time}"
