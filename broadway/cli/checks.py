"""Checks of a deployment, as seen from this host. No check changes anything, and each has a time limit."""

import asyncio
import contextlib
import io
import os
import re
import shutil
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2

from broadway.cli.common import LOCAL
from broadway.cli.findings import Finding, ok, problem, warning
from broadway.cli.identity_checks import identities
from broadway.cli.migration_checks import migrations
from broadway.cli.runtime_checks import choice_of_up, of_engine, runtime_of
from broadway.domain.assignment import memory_bytes
from broadway.domain.counts import plural
from broadway.domain.grader import Grader
from broadway.local import engine
from broadway.management import Management, ManagementError
from broadway.messages.topology import CONTROL, DEAD, DISPATCHER, EXCHANGES, RESULTS, SHARED_QUEUES
from broadway.mongo.errors import reason_of
from broadway.mongo.inspection import Inspection
from broadway.ports import PublishError, QueueState, StoreError
from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import BrokerUnreachableError
from broadway.runtime.addresses import local_address
from broadway.runtime.http_errors import UNSENT, why
from broadway.runtime.tls import trust
from broadway.settings.grader import GraderSettings
from broadway.settings.loading import read
from broadway.settings.masking import masked
from broadway.settings.programs import PROGRAMS, IngestSettings, ServiceSettings

WITHIN = 5.0  # seconds for each part, by default
SKEW = timedelta(seconds=2)  # between clocks; a Date header is precise to a second
BAD_SKEW = timedelta(seconds=10)  # as long as a dispatcher's lease
LOW_DISK, FULL_DISK = 2 * 2**30, 256 * 2**20  # bytes
DEFAULT_ENGINE = engine.DEFAULT


@dataclass(slots=True)
class Deployment:
    """A deployment, with the addresses of its parts and their answers so far.

    ``settings`` is None if the program would refuse them; then ``ca_file`` applies. ``inspection`` is the answer of the
    store and ``queues`` the answer of the broker, or None without an answer.
    """

    server: str
    management_url: str | None
    settings: ServiceSettings | GraderSettings | None
    ca_file: Path | None = None
    within: float = WITHIN  # seconds for each part
    inspection: Inspection | None = None
    queues: Mapping[str, QueueState] | None = None

    @property
    def tls(self) -> ssl.SSLContext:
        """The TLS context with the trusted authorities."""
        return self.settings.tls if self.settings else trust(self.ca_file)


Check = Callable[[Deployment], Coroutine[Any, Any, list[Finding]]]


async def examine(
    server: str | None,
    management_url: str | None,
    program: str,
    arguments: Sequence[str],
    *,
    ca_file: Path | None = None,
    within: float = WITHIN,
) -> list[Finding]:
    """Check all parts at the same time, each for ``within`` seconds at most; ``server`` is the API's address."""
    settings, findings = _settings(program, arguments)
    deployment = Deployment((server or api_address(settings)).rstrip("/"), management_url, settings, ca_file, within)
    checks: list[tuple[str, Check]] = [("api", _api), ("engine", _engine), ("disk", _disk)]
    if isinstance(settings, ServiceSettings):
        checks += [("store", _store), ("broker", _broker)]
    elif settings and settings.amqp_url:
        checks.append(("broker", _broker))
    for found in await asyncio.gather(*(_bounded(name, check, deployment) for name, check in checks)):
        findings += found
    if isinstance(settings, ServiceSettings):
        findings += [*_consumers(deployment), *_pools(deployment), *_runtimes(deployment), *_dead_letters(deployment)]
        if deployment.inspection:
            findings += identities(deployment.inspection, settings)
    return findings


def api_address(settings: object) -> str:
    """Return the address at which a program with these settings finds the API, or offers it on this host."""
    if isinstance(settings, GraderSettings):
        return re.sub("^ws", "http", settings.api_host)  # the same server speaks both
    if isinstance(settings, IngestSettings):
        scheme = "https" if settings.tls_cert else "http"
        return local_address(settings.bind_addr, settings.bind_port, scheme=scheme)
    return LOCAL


async def _bounded(name: str, check: Check, deployment: Deployment) -> list[Finding]:
    """Return a check's findings; a check that fails or exceeds its time limit is a problem."""
    task = asyncio.create_task(check(deployment))
    await asyncio.wait({task}, timeout=deployment.within)
    if not task.done():
        task.cancel()
        text = f"no answer within {deployment.within:g} s"
        return [problem(name, text, "check whether it is overloaded, frozen, or behind a firewall that drops packets")]
    if error := task.exception():
        return [
            problem(
                name, f"the check failed: {masked(repr(error))}"[:400], "this may be a bug of the doctor: report it"
            )
        ]
    return task.result()


def _settings(program: str, arguments: Sequence[str]) -> tuple[Any, list[Finding]]:
    """Return a program's settings as it would read them here, or None if it would refuse them."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            loaded = read(PROGRAMS[program], prog=f"python -m broadway.{program}", arguments=arguments)
    except SystemExit:
        mistakes = [line.partition("error: ")[2] for line in stderr.getvalue().splitlines() if "error: " in line]
        return None, [
            problem("config", mistake, "the program would not start; broker and store are not checked")
            for mistake in mistakes or ["the settings cannot be read"]
        ]
    return loaded.settings, [ok("config", f"broadway.{program} accepts its settings")]


async def _api(deployment: Deployment) -> list[Finding]:
    begun = datetime.now(UTC)
    try:
        async with httpx2.AsyncClient(timeout=0.8 * deployment.within, verify=deployment.tls) as http:
            answer = await http.get(f"{deployment.server}/readyz")
    except UNSENT as error:
        advice = "start ingest or the API, or give its address: --server, BROADWAY_SERVER, a grader's --api-host"
        return [problem("api", f"{masked(deployment.server)} does not answer: {why(error)}", advice)]
    findings = _readiness(deployment.server, answer)
    if "date" in answer.headers:
        between = begun + (datetime.now(UTC) - begun) / 2
        # A Date header is truncated to whole seconds: on average the time was half a second later.
        ahead = parsedate_to_datetime(answer.headers["date"]) + timedelta(seconds=0.5) - between
        findings.append(clock("API", ahead))
    return findings


def _readiness(server: str, answer: httpx2.Response) -> list[Finding]:
    try:
        report = answer.json()
        unavailable = {part: (each["since"], each["reason"]) for part, each in report["away"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return [
            problem(
                "api", f"{masked(server)} is no Broadway API: status {answer.status_code}", "give its address: --server"
            )
        ]
    if not unavailable:
        return [ok("api", f"{server} is ready")]
    make = warning if report.get("ready") else problem
    return [
        make("api", f"the API's {part} has been unavailable since {since}: {reason}", f"restore the {part}")
        for part, (since, reason) in unavailable.items()
    ]


def clock(whose: str, ahead: timedelta) -> Finding:
    """Judge by how much another clock is ahead of this host's."""
    seconds = abs(ahead.total_seconds())
    if timedelta(seconds=seconds) <= SKEW:
        return ok("clock", f"the {whose}'s clock agrees with this host's within {SKEW.total_seconds():g} s")
    text = f"the {whose}'s clock is {seconds:.1f} s {'ahead of' if ahead > timedelta(0) else 'behind'} this host's"
    make = problem if timedelta(seconds=seconds) > BAD_SKEW else warning
    return make("clock", text, "leases compare clocks: synchronize them (chrony, systemd-timesyncd)")


async def _store(deployment: Deployment) -> list[Finding]:
    assert isinstance(deployment.settings, ServiceSettings)  # noqa: S101 - graders have no store
    mongo = deployment.settings.mongodb
    try:
        inspection = await Inspection.take(
            mongo.dsn, primary=mongo.primary, logs=mongo.logs, within=0.8 * deployment.within
        )
    except (StoreError, ValueError) as error:
        # The driver's text about an address may contain a part of the password.
        plain = reason_of(error) if isinstance(error, StoreError) else "the address or one of its options is wrong"
        text = f"MongoDB does not answer at {masked(mongo.dsn)}: {plain}"
        return [problem("store", text, "start it, or correct --mongodb-dsn")]
    deployment.inspection = inspection
    findings = [clock("store", inspection.ahead)]
    if inspection.missing_indexes:
        text = f"indexes are missing: {', '.join(inspection.missing_indexes)}"
        findings.append(warning("store", text, "queries are slow without them; services create them when they start"))
    findings += migrations(inspection)
    if inspection.is_replicated:
        return [ok("store", "MongoDB answers and is a replica set"), *findings]
    text = "MongoDB answers, but is not a replica set"
    return [warning("store", text, "its data is on one disk only; run three members in production"), *findings]


async def _broker(deployment: Deployment) -> list[Finding]:
    assert deployment.settings is not None  # noqa: S101 - not called without settings
    assert deployment.settings.amqp_url is not None  # noqa: S101 - the same
    url = deployment.settings.amqp_url.get_secret_value()
    try:
        await Rabbit.reach(url, within=deployment.within / 2, tls=deployment.settings.tls)
        async with Rabbit.connect(url, service="doctor", tls=deployment.settings.tls) as rabbit:
            return await _connected(rabbit, deployment)
    except BrokerUnreachableError as error:
        advice = "start it, or correct --amqp-url; a refused login means the user, its password or its virtual host"
        return [problem("broker", str(error), advice)]
    except PublishError as error:
        return [problem("broker", str(error), "see its log")]


async def _connected(rabbit: Rabbit, deployment: Deployment) -> list[Finding]:
    findings = [ok("broker", "login accepted")]
    missing = [exchange.name for exchange in EXCHANGES if not await rabbit.has(exchange)]
    if deployment.management_url or CONTROL.name not in missing:
        findings.append(await _alarms(rabbit, deployment))
    if isinstance(deployment.settings, GraderSettings):
        return findings
    states = {queue.name: await rabbit.queue_state(queue) for queue in SHARED_QUEUES}
    missing += [name for name, state in states.items() if state is None]
    deployment.queues = {name: state for name, state in states.items() if state}
    if missing:
        text = f"missing: {', '.join(missing)}"
        return [*findings, problem("topology", text, "services declare them when they start: start one")]
    return [*findings, ok("topology", "the exchanges and the shared queues exist")]


async def _alarms(rabbit: Rabbit, deployment: Deployment) -> Finding:
    advice = "submissions wait meanwhile: free memory or disk on the broker's hosts"
    if deployment.management_url is None:
        try:
            await rabbit.ping()
        except PublishError as error:
            return problem("broker", str(error), advice)
        return ok("broker", "it accepts messages")
    try:
        async with Management.connect(deployment.management_url, tls=deployment.tls) as management:
            await management.get("health", "checks", "alarms")
    except ManagementError as error:
        if error.status == httpx2.codes.SERVICE_UNAVAILABLE:
            return problem("broker", f"an alarm: {error}", advice)
        return warning("broker", str(error), "correct --management-url, or omit it")
    return ok("broker", "no alarm")


def _consumers(deployment: Deployment) -> Iterable[Finding]:
    queues = deployment.queues
    if not queues or any(queue.name not in queues for queue in (RESULTS, DISPATCHER, DEAD)):
        return
    if not queues[RESULTS.name].consumers or not queues[DEAD.name].consumers:
        text = f"no results service is running; {queues[RESULTS.name].waiting} messages wait"
        yield problem("consumers", text, "start one at once: the reports of graders are not recorded")
    if not queues[DISPATCHER.name].consumers:
        text = "no dispatcher is active: graders get no jobs"
        yield problem("consumers", text, "start one; the lease of a lost one ends after --leader-ttl")
    if all(queues[queue.name].consumers for queue in (RESULTS, DISPATCHER)):
        yield ok("consumers", "a dispatcher is active, and results are recorded")


def _pools(deployment: Deployment) -> Iterable[Finding]:
    inspection, settings = deployment.inspection, deployment.settings
    if inspection is None or not isinstance(settings, ServiceSettings):
        return
    live = _live(inspection, settings)
    graders = Counter(grader.pool for grader in live)
    taking = Counter(grader.pool for grader in live if grader.has_slots)
    for pool in sorted({course.pool for course in inspection.courses}):
        of_pool = ", ".join(sorted(course.id for course in inspection.courses if course.pool == pool))
        if not graders[pool]:
            text = f"{pool} has no live grader: {of_pool} will wait"
            yield problem("pools", text, f"start one: broadway grader --pool {pool}")
        elif not taking[pool]:
            text = f"every grader of {pool} has paused: {of_pool} will wait"
            yield problem("pools", text, "`broadway grader list` shows why")
        else:
            yield ok("pools", f"{pool} has {graders[pool]} live graders")
    if not inspection.courses:
        yield warning(
            "pools", "no course is registered", "`broadway course add`, or start ingest with a --course-config"
        )


def _live(inspection: Inspection, settings: ServiceSettings) -> Sequence[Grader]:
    seen_since = datetime.now(UTC) - settings.lease
    return [grader for grader in inspection.graders if grader.was_seen_since(seen_since)]


def _runtimes(deployment: Deployment) -> Iterable[Finding]:
    """Find pools whose graders have different runtimes, and so may run the same job differently."""
    inspection, settings = deployment.inspection, deployment.settings
    if inspection is None or not isinstance(settings, ServiceSettings):
        return
    pools: dict[str, dict[str, list[str]]] = {}
    for grader in _live(inspection, settings):
        if grader.runtime:
            pools.setdefault(grader.pool, {}).setdefault(grader.runtime, []).append(grader.id)
    for pool, by_runtime in sorted(pools.items()):
        if len(by_runtime) > 1:
            each = "; ".join(f"{runtime}: {', '.join(sorted(ids))}" for runtime, ids in sorted(by_runtime.items()))
            advice = "start the graders of a pool with the same --runtime, or give them different pools"
            yield warning("runtimes", f"the graders of {pool} have different runtimes ({each})", advice)
        else:
            yield ok("runtimes", f"the graders of {pool} have one runtime, {next(iter(by_runtime))}")


def _dead_letters(deployment: Deployment) -> Iterable[Finding]:
    if deployment.queues and DEAD.name in deployment.queues and (waiting := deployment.queues[DEAD.name].waiting):
        yield problem("letters", f"{plural(waiting, 'dead letter')} to be stored", "start a results service")
    if deployment.inspection and (letter := deployment.inspection.letter):
        text = f"{plural(deployment.inspection.letters, 'dead letter')}; the newest in {letter.queue}: {letter.reason}"
        yield warning(
            "letters", text[:400], "see `broadway dead list`; repair the cause, then `broadway dead discard` them"
        )
    elif deployment.inspection:
        yield ok("letters", "no dead letters")


async def _engine(deployment: Deployment) -> list[Finding]:
    settings = deployment.settings
    if not isinstance(settings, GraderSettings):
        return [*await _docker(deployment), await choice_of_up()]
    found, needs_engine = await runtime_of(settings)
    return [*found, *(await _docker(deployment) if needs_engine else [])]


async def _docker(deployment: Deployment) -> list[Finding]:
    host = os.environ.get("DOCKER_HOST", DEFAULT_ENGINE)
    is_grader = isinstance(deployment.settings, GraderSettings)
    try:
        info = await engine.describe(host)
    except UNSENT as error:
        text = f"no Docker Engine answers at {host}: {why(error)}"
        if is_grader:
            return [problem("engine", text, "start it, or set DOCKER_HOST")]
        return [warning("engine", text, "only hosts with graders need one")]
    runtime = of_engine(deployment.settings.runtime) if isinstance(deployment.settings, GraderSettings) else None
    if runtime and runtime not in info.get("Runtimes", {}):
        known = ", ".join(sorted(info.get("Runtimes", {})))
        text = f"the engine has no runtime {runtime}, only {known}"
        return [problem("engine", text, "install it, or change --runtime")]
    used = runtime or info.get("DefaultRuntime")
    return [ok("engine", f"Docker Engine {info.get('ServerVersion')} answers at {host}, runtime {used}")]


async def _disk(deployment: Deployment) -> list[Finding]:
    settings = deployment.settings
    low, full, places = float(LOW_DISK), float(FULL_DISK), [Path(settings.log.dir if settings else "")]
    if isinstance(settings, GraderSettings):
        places.append(settings.work_dir)
        full = max(full, memory_bytes(settings.min_disk))
    return [_free(_existing(place.absolute()), low=max(low, 2 * full), full=full) for place in dict.fromkeys(places)]


def _existing(place: Path) -> Path:
    """Return the directory, or the closest existing one above it."""
    return place if place.is_dir() else _existing(place.parent)


def _free(place: Path, *, low: float, full: float) -> Finding:
    free = shutil.disk_usage(place).free
    text = f"{place}: {free / 2**30:.1f} GiB free"
    if free < full:
        return problem("disk", text, "free some space: without it logs are lost, and graders take no jobs")
    return warning("disk", text, "free some space soon") if free < low else ok("disk", text)
