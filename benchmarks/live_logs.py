"""A job that floods its output: its time and the grader's memory with a reader of its live log, and without."""

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_hex

from benchmarks.images import BUSYBOX
from benchmarks.machine import spending
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.runtimes import MEMORY, FailedError
from benchmarks.samples import Figure, Results
from benchmarks.stages import DOCKER, OCI, engine_with_image
from broadway.domain.assignment import Stage
from broadway.domain.job import Phase
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.containers import OciContainers
from broadway.grader.ports import Containers, Labels, Limits
from broadway.grader.worker.log_publisher import LogPublisher
from broadway.grader.worker.reports import Reports
from broadway.ingest.live.log_ring import LogRing
from broadway.local.broker import broker
from broadway.messages.events import Event, JobDispatched
from broadway.messages.live_logs import LogChunk, WatchLog
from broadway.messages.topology import log_queue
from broadway.rabbit.client import Rabbit

WALL = Figure("a job that floods its output", "s")
CPU = Figure("its CPU, whole machine", "s")
OWN = Figure("its CPU in the processes of grader and reader", "s")
GROWTH = Figure("growth of the grader's peak memory", "MiB")
RENEW = 5.0  # seconds
GRADER = "bench"


def contender(runtime: str, *, reads: bool) -> str:
    """Return the name of a contender."""
    return f"{runtime}, {'with a reader' if reads else 'without a reader'}"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """The flood on both runtimes, with the publisher of a grader, a broker, and the reader of an API process."""
    limits = Limits(output=4 * plan.flood)
    async with (
        engine_with_image(directory) as host,
        broker(directory / "broker") as node,
        Rabbit.connect(node.amqp_url, service="bench") as rabbit,
        DockerContainers.connect(slots=1, limits=limits, docker_host=host, work_dir=directory) as docker,
        OciContainers.connect(slots=1, limits=limits, docker_host=host, work_dir=directory) as oci,
    ):
        await rabbit.declare_topology()
        contenders: dict[str, Measure] = {}
        for name, containers in ((DOCKER, docker), (OCI, oci)):
            await containers.ensure_images([BUSYBOX])
            for reads in (False, True):
                flood = _Flood(containers, rabbit, plan.flood, reads)
                contenders[contender(name, reads=reads)] = partial(flood.measure)
        await interleave(contenders, rounds=plan.rounds, into=results)
    results.notes["live-logs"] = f"lines of 60 characters, {plan.flood >> 20} MiB, with a raised output limit"


@dataclass(slots=True)
class _Flood:
    containers: Containers
    rabbit: Rabbit
    size: int
    reads: bool
    _numbers: "count[int]" = field(default_factory=count)

    async def measure(self) -> Mapping[Figure, float]:
        name = f"bench-{os.getpid()}-{token_hex(4)}-{next(self._numbers)}"
        ids = {"course": "bench", "run_id": "r", "job_id": name, "generation": 1}
        job = JobDispatched.model_validate(
            {**ids, "assignment": "flood", "phase": Phase.STUDENTS, "attempt": 1, "stages": []}
        )
        publisher = LogPublisher(GRADER, self.rabbit, Reports(self.rabbit))
        async with contextlib.aclosing(publisher):
            with publisher.of(job, name) as listener:
                labels = Labels(GRADER, f"bench.{os.getpid()}", name, name, 0, listener=listener)
                watch = WatchLog.model_validate({**ids, "execution_id": name, "seconds": 60, "backlog": True})
                async with _reading(self.rabbit, publisher, watch) if self.reads else contextlib.nullcontext():
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    own = time.process_time()
                    with spending() as spent:
                        await self._run(labels)
                    own = time.process_time() - own
                    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {WALL: spent.wall, CPU: spent.cpu, OWN: own, GROWTH: (after - before) / 1024}

    async def _run(self, labels: Labels) -> None:
        command = f"yes {'0123456789' * 6} | head -c {self.size}"
        stage = {"image": BUSYBOX, "entrypoint": ["sh", "-c", command], "memory": MEMORY, "networking": False}
        run = await self.containers.run(Stage.model_validate({**stage, "timeout": 600}), mounts=[], labels=labels)
        if run.exit_code or run.output_bytes != self.size:
            raise FailedError(f"exit code {run.exit_code}, {run.output_bytes} bytes")


@contextlib.asynccontextmanager
async def _reading(rabbit: Rabbit, publisher: LogPublisher, watch: WatchLog) -> AsyncIterator[None]:
    """Read an execution's live log as an API process does."""
    ring = LogRing()
    ring.begin(1, watch.execution_id)

    async def hear(event: Event) -> None:
        if isinstance(event, LogChunk):
            ring.add(event)

    async def renew() -> None:
        while True:
            publisher.watch(watch.model_copy(update={"backlog": not ring.begun}))
            await asyncio.sleep(RENEW)

    async with rabbit.consume(log_queue("bench", GRADER, watch.job_id), hear, tag="bench", prefetch=64, most_events=1):
        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
    if not ring.begun:
        raise FailedError("the reader got nothing")
