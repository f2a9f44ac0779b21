"""Every system call, by every entry of the processor: a strict container makes those of the list, and no other.

gVisor has no filter of ours: it implements the calls itself, and has no entry for 32-bit programs.
"""

import ctypes
import ctypes.util
import errno
import platform
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hostile.conftest import Open
from images import HOSTILE

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded
from broadway.grader.oci.choice import OCI as NAME
from broadway.grader.sandbox.seccomp import STRICT_RULES

LAST = 480  # the highest number to try
PROGRAM = (Path(__file__).parent / "calls.pl").read_text()
REFUSED = {str(errno.EPERM), str(errno.ENOSYS), f"signal {int(signal.SIGSYS)}"}
PROBES = {("64-bit", number) for number in (335, 336)}  # which the kernel shows to no filter; only its probes make them
# Calls of the list that the kernel itself refuses to a program without capabilities, which may lock no memory.
PRIVILEGED = {"setgroups", "mlock", "mlock2", "mlockall"}
CONDITIONAL = {rule.name for rule in STRICT_RULES if rule.arguments}  # allowed with zeros as arguments
SKIPPED = {"sync"}  # writes all disks of the host

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is made of this machine's code")


def numbers(names: set[str]) -> dict[int, str]:
    """Return calls by their numbers on this machine; calls of other architectures have none."""
    library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    found = {int(library.seccomp_syscall_resolve_name(name.encode())): name for name in names}
    return {number: name for number, name in found.items() if number >= 0}


def listed(names: set[str]) -> str:
    return ",".join(map(str, sorted(numbers(names))))


def stage(*, untrusted: bool = True) -> dict[str, Any]:
    arguments = [str(LAST), listed(CONDITIONAL), listed(SKIPPED)]
    common = {"image": HOSTILE, "entrypoint": ["perl", "-e", PROGRAM, *arguments], "timeout": 120, "memory": "64m"}
    return {**common, "untrusted": True} if untrusted else {**common, "networking": False}


def results(graded: Graded) -> dict[tuple[str, int], str]:
    assert graded.outcome is Outcome.SUCCEEDED, f"{graded.reason} {graded.stdout[-300:]}"
    lines = [line.split(" ", 3)[1:] for line in graded.stdout.splitlines()]
    return {(entry, int(number)): result for entry, number, result in lines}


def allowed(found: Mapping[tuple[str, int], str]) -> set[tuple[str, int]]:
    return {call for call, result in found.items() if result not in REFUSED} - PROBES


@pytest.mark.parametrize("runtime", [None, NAME], ids=["runc", "oci"])
async def test_a_strict_container_makes_the_calls_of_the_list_by_one_entry(
    runtime: str | None, open_bench: Open
) -> None:
    async with open_bench(runtime) as bench:
        found = results(await bench.run([stage()]))

    expected = numbers({rule.name for rule in STRICT_RULES if not rule.error} - SKIPPED)
    assert len(found) > 3 * LAST, "each entry was tried"
    assert allowed(found) <= {("64-bit", number) for number in expected}
    refused = {name for number, name in expected.items() if found.get(("64-bit", number)) == str(errno.EPERM)}
    assert refused <= PRIVILEGED, "the list's own calls are made"


async def test_the_sweep_notices_calls_by_other_entries(open_bench: Open) -> None:
    """A test of the sweep itself: a container of the standard profile does run 32-bit programs."""
    async with open_bench(NAME) as bench:
        found = results(await bench.run([stage(untrusted=False)]))

    assert {entry for entry, _ in allowed(found)} == {"64-bit", "32-bit"}
