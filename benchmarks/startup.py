"""The time that commands need to start."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.control_plane import BROADWAY
from benchmarks.plan import Plan
from benchmarks.rounds import interleave
from benchmarks.samples import Figure, Results
from broadway.local.processes import child, free_ports

HELP = Figure("`broadway --help`", "ms")
UP = Figure("`broadway up` until ready", "s")

COMMAND = (sys.executable, "-m", "broadway")
WITHIN = 120  # seconds
_REPOSITORY = Path(__file__).parents[1]


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """`broadway --help`, and `broadway up` with no data."""
    await interleave({BROADWAY: show_help}, rounds=4 * plan.starts, into=results)
    await interleave({BROADWAY: partial(_up, directory)}, rounds=max(1, plan.starts // 2), into=results, warm_up=False)


async def show_help() -> Mapping[Figure, float]:
    """Run `broadway --help`, and return its time."""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*COMMAND, "--help", stdout=DEVNULL, cwd=_REPOSITORY)
    if code := await process.wait():
        raise RuntimeError(f"exit code {code}")
    return {HELP: 1000 * (time.perf_counter() - begun)}


async def _up(directory: Path) -> Mapping[Figure, float]:
    home = Path(mkdtemp(dir=directory))
    (port,) = free_ports(1)
    ready = home / "ready.json"
    flags = ("--directory", str(home), "--bind-port", str(port), "--json-ready", str(ready))
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
    begun = time.perf_counter()
    async with child("broadway up", (*COMMAND, "up", *flags), log=home / "up.log", env=environment, grace=60) as up:

        async def is_ready() -> bool:
            return ready.exists()

        await up.until(is_ready, within=WITHIN)
        return {UP: time.perf_counter() - begun}
