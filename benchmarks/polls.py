"""Front ends that poll a run, and submissions beside them: waits and refusals."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path

from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, NOTHING, Site, ground

POLL = Figure("polls of a run: the answer, p99", "ms")
REFUSED = Figure("polls of a run: refused", "%")
UNTIMED = Figure("polls of a run: refused without Retry-After", "answers")
SUBMISSION = Figure("submissions beside polls: the answer, p99", "ms")
REFUSED_SUBMISSIONS = Figure("submissions beside polls: refused", "answers")
AFTER = Figure("2 s after the polls: the slowest of five polls and submissions", "ms")
CPU = Figure("polls of a run: CPU of ingest for each", "ms")
STORE_CPU = Figure("polls of a run: CPU of the store for each", "ms")

SUBMISSIONS = 4.0  # per second, of one student each
CALM = 2.0  # seconds after the polls
LAST = 5  # polls and submissions after that
NEVER = 120.0  # seconds, the patience of the client
REFUSALS = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def polls(rate: int) -> str:
    """Return the name of a number of polls, as a contender."""
    return f"{rate} polls/s"


@dataclass(slots=True)
class Answers:
    """The seconds of each answer, and the refusals."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    untimed: int = 0  # refusals that do not say when to ask again

    @property
    def number(self) -> int:
        return len(self.seconds) + self.refused

    @property
    def slow(self) -> float:
        """Milliseconds within which 99 of 100 answers came; those of ``NEVER`` if all were refused."""
        ordered = sorted(self.seconds) or [NEVER]
        return 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Polls of a waiting run at several rates, with submissions beside them."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        run_id = (await site.submit("noop", plan.roster)).run_id
        rates: dict[str, Measure] = {polls(rate): partial(_poll, site, plan, run_id, rate) for rate in plan.polls}
        await interleave(rates, rounds=plan.poll_rounds, into=results, warm_up=False)
    results.notes["polls"] = (
        f"v1's state of one run of {plan.roster:,} students, no grader being there, for {plan.polling:g} s, each poll "
        f"at its time whether or not earlier ones are answered; {SUBMISSIONS:g} submissions per second beside them"
    )


async def _poll(site: Site, plan: Plan, run_id: str, rate: int) -> Mapping[Figure, float]:
    polled, submitted, last = Answers(), Answers(), Answers()
    before = site.cpu()
    async with asyncio.TaskGroup() as group:
        group.create_task(_at_rate(rate, plan.polling, partial(_ask, site, run_id, polled)))
        group.create_task(_at_rate(SUBMISSIONS, plan.polling, partial(_submit, site, submitted)))
    cpu = site.cpu()
    await asyncio.sleep(CALM)
    for _ in range(LAST):
        await _ask(site, run_id, last)
        await _submit(site, last)
    return {
        POLL: polled.slow,
        REFUSED: 100 * polled.refused / polled.number,
        UNTIMED: polled.untimed,
        SUBMISSION: submitted.slow,
        REFUSED_SUBMISSIONS: submitted.refused + last.refused,
        AFTER: 1000 * (NEVER if last.refused else max(last.seconds)),
        CPU: 1000 * (cpu["ingest"] - before["ingest"]) / polled.number,
        STORE_CPU: 1000 * (cpu["store"] - before["store"]) / polled.number,
    }


async def _at_rate(rate: float, seconds: float, ask: Callable[[], Coroutine[None, None, None]]) -> None:
    """Ask so many times per second, without a wait for earlier answers."""
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            group.create_task(ask())


async def _ask(site: Site, run_id: str, answers: Answers) -> None:
    await _note(site, "GET", f"/api/v1/grading_run_status/{COURSE}/{run_id}", None, answers)


async def _submit(site: Site, answers: Answers) -> None:
    body = {"students_env": [{"STUDENT_ID": "single"}]}
    await _note(site, "POST", f"/api/v1/grading_run/{COURSE}/noop", body, answers)


async def _note(site: Site, method: str, path: str, body: Mapping[str, object] | None, answers: Answers) -> None:
    begun = time.perf_counter()
    answer = await site.http.request(method, path, json=body)
    if answer.status_code in REFUSALS:
        answers.refused += 1
        answers.untimed += "retry-after" not in answer.headers
        return
    answer.raise_for_status()
    answers.seconds.append(time.perf_counter() - begun)
