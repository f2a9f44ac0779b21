"""The users of untrusted stages: no two jobs of a host have the same, and those of dead graders are free again."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from broadway.grader.sandbox.users import COUNT, FIRST, Users

HOLDS_ONE = """
import pathlib, sys
from broadway.grader.sandbox.users import Users
with Users(int(sys.argv[1]), [pathlib.Path(sys.argv[2])]).taken() as user:
    print(user, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.lock"


def test_jobs_at_the_same_time_have_different_users_of_the_range(file: Path) -> None:
    users = Users(30_000, [file])
    with ExitStack() as stack:
        taken = [stack.enter_context(users.taken()) for _ in range(100)]

    assert len(set(taken)) == 100
    assert all(30_000 <= user < 30_000 + COUNT for user in taken)


def test_a_user_that_was_used_long_ago_comes_before_one_that_was_just_used(file: Path) -> None:
    users = Users(FIRST, [file])
    with users.taken() as first, users.taken() as second:
        pass
    with users.taken() as third, users.taken() as fourth:
        assert (third, fourth) == (second, first), "in the order in which they were given back"


def test_a_range_around_the_overflow_user_leaves_it_out(file: Path) -> None:
    users = Users(65_530, [file])
    with ExitStack() as stack:
        taken = {stack.enter_context(users.taken()) for _ in range(COUNT - 2)}
        with pytest.raises(OSError, match="all user numbers for untrusted stages are taken"):
            stack.enter_context(users.taken())

    assert not taken & {65_534, 65_535}


def test_two_graders_of_a_host_never_have_the_same_users(file: Path) -> None:
    """Even those in one process, as deployments in tests are."""
    both = [Users(FIRST, [file]), Users(FIRST, [file])]
    with ExitStack() as stack:
        taken = [stack.enter_context(users.taken()) for _ in range(COUNT // 4) for users in both]
        assert len(set(taken)) == len(taken)


def test_a_grader_that_dies_gives_its_users_back(file: Path) -> None:
    alone = Users(FIRST, [file])
    command = [sys.executable, "-c", HOLDS_ONE, str(FIRST), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        theirs = int(other.stdout.readline())
        with ExitStack() as stack:
            ours = {stack.enter_context(alone.taken()) for _ in range(COUNT - 1)}
            with pytest.raises(OSError, match="are taken"):
                stack.enter_context(alone.taken())
            other.kill()
            other.wait()
    alone.close()
    again = Users(FIRST, [file])
    with ExitStack() as stack:
        later = {stack.enter_context(again.taken()) for _ in range(COUNT)}

    assert theirs not in ours
    assert theirs in later


def test_a_grader_that_may_not_write_the_hosts_file_has_one_of_its_own(tmp_path: Path) -> None:
    with Users(FIRST, [tmp_path / "missing" / "users.lock", tmp_path / "users.lock"]).taken() as user:
        assert user >= FIRST
    assert (tmp_path / "users.lock").exists()
