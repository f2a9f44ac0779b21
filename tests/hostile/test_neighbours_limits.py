"""What the kernel counts by user: a strict job that uses it up leaves the job beside it all of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness import until
from hostile.conftest import Bench, Open
from images import HOSTILE

from broadway.domain.job import Outcome
from broadway.grader.oci.choice import OCI as NAME

TAKES_ALL = """
syscall(294, 0) >= 0 or last for 1 .. 900;  # inotify_init1
my $timer = "\\0" x 4;
syscall(222, 1, 0, $timer) == 0 or last for 1 .. 100000;  # timer_create
my @ends;
while (@ends < 60 && pipe(my $reader, my $writer)) {
    fcntl($writer, 1031, 1 << 20) or last;  # F_SETPIPE_SZ; with 64 MiB together, others get small pipes
    push(@ends, $reader, $writer);
}
open(my $ready, ">", "/job/out/ready");
close($ready);
sleep(1000);
"""
NEEDS_SOME = """
my $timer = "\\0" x 4;
syscall(294, 0) >= 0 or exit 10;
syscall(222, 1, 0, $timer) == 0 or exit 11;
pipe(my $reader, my $writer) or exit 12;
exit(fcntl($writer, 1032, 0) == 65536 ? 0 : 13);  # F_GETPIPE_SZ
"""


def stage(program: str) -> dict[str, Any]:
    common = {"image": HOSTILE, "entrypoint": ["perl", "-e", program], "memory": "128m", "timeout": 300}
    return {**common, "untrusted": True, "write": ["out"]}


def users(bench: Bench) -> set[int]:
    return {path.stat().st_uid for path in bench.work.glob("*/*/written/0")}


@pytest.mark.parametrize("runtime", [None, NAME], ids=["runc", "oci"])
async def test_a_job_takes_nothing_that_is_counted_by_user_from_the_job_beside_it(
    runtime: str | None, open_bench: Open
) -> None:
    async with open_bench(runtime) as bench:
        greedy = asyncio.create_task(bench.run([stage(TAKES_ALL)]))
        try:
            await until(lambda: greedy.done() or _is_ready(bench.work))
            assert not greedy.done(), await greedy
            graded = await bench.run([stage(NEEDS_SOME)])
        finally:
            greedy.cancel()
            await asyncio.wait({greedy})

    assert graded.outcome is Outcome.SUCCEEDED, graded.reason


def _is_ready(work: Path) -> bool:
    return any(work.glob("*/*/written/0/ready"))


async def test_two_jobs_at_the_same_time_have_directories_of_different_users(open_bench: Open) -> None:
    waits = stage("open(my $ready, '>', '/job/out/ready'); close($ready); sleep(1000)")
    async with open_bench(NAME) as bench:
        jobs = [asyncio.create_task(bench.run([waits])) for _ in range(2)]
        try:
            await until(lambda: len(list(bench.work.glob("*/*/written/0/ready"))) == len(jobs))
            found = users(bench)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)

    assert len(found) == len(jobs)
    assert 65534 not in found
