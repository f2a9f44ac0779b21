"""Detection of the end of a process that left something behind."""

import os
import subprocess
import sys
import time

import pytest
from harness import until

from broadway.grader.sandbox.process_identity import booted_at, has_ended, is_of_earlier_boot, own_identity

SAY_AND_WAIT = (
    "from broadway.grader.sandbox.process_identity import own_identity; print(own_identity(), flush=True); input()"
)


def parts() -> list[str]:
    """Return the boot, the PID namespace, the process id and the start time."""
    return own_identity().split(".")


def test_this_process_has_not_ended() -> None:
    assert own_identity() == own_identity()
    assert parts()[2] == str(os.getpid())
    assert has_ended(own_identity()) is False


async def test_a_killed_process_has_ended_even_if_it_is_not_reaped() -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - it must be an unreaped child of this process
        [sys.executable, "-c", SAY_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        identity = child.stdout.readline().strip()
        assert not has_ended(identity)

        child.kill()
        await until(lambda: has_ended(identity))
    assert has_ended(identity)


@pytest.mark.parametrize(
    ("part", "value", "over"),
    [
        (3, "1", True),  # the same process id, started at another time
        (2, "4194305", True),  # above the highest process id
        (2, "none", True),
        (0, "another-boot", None),  # an earlier boot of this host, or a boot of another host
        (1, "1", None),  # another PID namespace: unknown here
    ],
)
def test_identities_that_differ_from_ours(part: int, value: str, *, over: bool | None) -> None:
    identity = parts()
    identity[part] = value

    assert has_ended(".".join(identity)) is over


def test_an_earlier_boot_is_one_of_this_namespace() -> None:
    boot, namespace, *rest = parts()

    assert is_of_earlier_boot(".".join(["another-boot", namespace, *rest]))
    assert not is_of_earlier_boot(".".join(["another-boot", "1", *rest]))
    assert not is_of_earlier_boot(".".join([boot, namespace, *rest]))


def test_this_host_was_booted_before_this_process_was_started() -> None:
    assert 0 < booted_at() < time.time()


@pytest.mark.parametrize("life", ["", "...", "nonsense", "a.b.c"])
def test_an_invalid_identity_does_not_count_as_ended(life: str) -> None:
    assert not has_ended(life)
