"""The delay of an alert: from the death of a grader's engine until Prometheus, with the intervals of deploy/, fires."""

import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
from forks import PATH, TESTS
from harness import until
from watching import Prometheus, command, configure

from benchmarks.plan import Plan
from benchmarks.samples import Figure, Results
from benchmarks.site import START, Site, ground
from broadway.local.processes import child, free_ports

ALERT = "BroadwayEngineDown"
TOKEN, METRICS = "bench-cluster-token", "bench-metrics-token"
PATIENCE = 180.0  # seconds until an alert fires, or ends
TARGETS = 2  # ingest and the grader

ENGINE = "the engine of a grader dies"
DELAY = Figure("until the alert fires", "s")
RECOVERY = Figure("until the alert ends, after the engine is back", "s")


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """The time until the alert of a dead engine fires, with the intervals of deploy/prometheus."""
    api_flags = ("--token", TOKEN, "--metrics-token", METRICS)
    async with ground(directory) as below, Site.open(below, flags=api_flags) as site, AsyncExitStack() as stack:
        of_grader, of_prometheus = free_ports(2)
        work = directory / "work"
        program = (sys.executable, str(TESTS / "programs" / "fake_grader.py"), str(site.http.base_url), "host7", "2")
        environment = {**below.environment, "PYTHONPATH": PATH, "FAKE_METRICS_PORT": str(of_grader)}
        grader = child("grader", (*program, str(work), TOKEN), log=directory / "grader.log", env=environment)
        await stack.enter_async_context(grader)
        port = site.http.base_url.port or 0
        config = configure(directory, api=port, grader=of_grader, token=METRICS, is_quick=False)
        watching = command(config, port=of_prometheus)
        log = directory / "prometheus.log"
        await stack.enter_async_context(child("prometheus", watching, log=log, env=below.environment))
        http = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{of_prometheus}")
        prometheus = Prometheus(await stack.enter_async_context(http))
        await until(lambda: prometheus.are_up(TARGETS), within=START)
        for _ in range(plan.alert_rounds):
            (work / "engine-away").touch()
            delay = await _seconds_until(prometheus, fires=True)
            (work / "engine-away").unlink()
            results.add(ENGINE, {DELAY: delay, RECOVERY: await _seconds_until(prometheus, fires=False)})
    results.notes["alerts"] = (
        "scrapes and evaluations every 15 s, `for` of 30 s, a check of the engine every 5 s, as in deploy/prometheus"
    )


async def _seconds_until(prometheus: Prometheus, *, fires: bool) -> float:
    async def is_so() -> bool:
        return bool(await prometheus.firing(ALERT)) is fires

    begun = time.monotonic()
    await until(is_so, within=PATIENCE)
    return time.monotonic() - begun
