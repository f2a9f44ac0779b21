"""Whether the process that left something behind still lives."""

import os
import subprocess
import sys

import pytest
from harness import until

from broadway.grader.sandbox.process_identity import has_ended, own_identity

SAY_AND_WAIT = (
    "from broadway.grader.sandbox.process_identity import own_identity; print(own_identity(), flush=True); input()"
)


def parts() -> list[str]:
    """Boot, namespace, process, start time."""
    return own_identity().split(".")


def test_this_process_lives() -> None:
    assert own_identity() == own_identity()
    assert parts()[2] == str(os.getpid())
    assert not has_ended(own_identity())


async def test_another_process_lives_until_it_has_ended_even_if_nobody_waits_for_it() -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - it must be this process's own, unwaited child
        [sys.executable, "-c", SAY_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        life = child.stdout.readline().strip()
        assert not has_ended(life)

        child.kill()
        await until(lambda: has_ended(life))
    assert has_ended(life)


@pytest.mark.parametrize(
    ("part", "value", "over"),
    [
        (3, "1", True),  # the same process id, started at another time
        (2, "4194305", True),  # above the highest process id
        (2, "none", True),
        (0, "another-boot", True),
        (1, "1", False),  # another PID namespace: nobody here can tell
    ],
)
def test_lives_that_differ_from_ours(part: int, value: str, *, over: bool) -> None:
    life = parts()
    life[part] = value

    assert has_ended(".".join(life)) is over


@pytest.mark.parametrize("life", ["", "...", "nonsense", "a.b.c"])
def test_what_is_no_life_is_not_known_to_be_over(life: str) -> None:
    assert not has_ended(life)
