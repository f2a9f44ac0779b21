"""All of Broadway on one machine: first broker, store and engine, then the API, then graders."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from broadway.grader.oci.choice import AUTO, OCI, Choice, choose
from broadway.grader.oci.facts import which
from broadway.grader.oci.places import ENGINE, REGISTRY, SKOPEO, Place
from broadway.grader.oci.probe import probe
from broadway.grader.ports import ContainerError
from broadway.local.broker import Broker, broker
from broadway.local.engine import Engine, engine, unavailable
from broadway.local.ports import kept_ports
from broadway.local.processes import Child, LocalError, child
from broadway.local.secret import kept, private
from broadway.local.store import store
from broadway.local.supervisor import Supervisor
from broadway.local.up_variables import DIRECTORY
from broadway.runtime.addresses import local_address

START = 60  # seconds for the API to become ready
ANSWER = 2  # seconds to wait for the API, when everything stops
DRAIN = 60  # seconds for a grader to finish or give back its jobs

# Variables of this process that a grader does not get: each would give it the rights of a service or an operator.
_OF_SERVICES = {f"BROADWAY_{name}" for name in ("AMQP_URL", "MONGODB_DSN", "MANAGEMENT_URL", "OPERATOR_TOKEN")}

Say = Callable[[str], None]


@dataclass(frozen=True)
class UpOptions:
    """The options of `broadway up`. With the address of a broker or a store, it does not start one."""

    directory: Path = DIRECTORY
    bind_addr: str = "127.0.0.1"
    bind_port: int = 1470
    graders: int = 1
    slots: int = field(default_factory=lambda: os.cpu_count() or 1)
    course_config: Path | None = None
    token: str | None = field(default=None, repr=False)
    operator_token: str | None = field(default=None, repr=False)
    original_graders: str = ""
    runtime: str = AUTO  # that, or a grader's `--runtime`
    json_ready: Path | None = None
    amqp_url: str | None = field(default_factory=lambda: os.environ.get("BROADWAY_AMQP_URL"), repr=False)
    mongodb_dsn: str | None = field(default_factory=lambda: os.environ.get("BROADWAY_MONGODB_DSN"), repr=False)
    api_command: tuple[str, ...] = (sys.executable, "-m", "broadway.api")
    grader_command: tuple[str, ...] = (sys.executable, "-m", "broadway.grader")

    @property
    def log_dir(self) -> Path:
        return self.directory / "logs"

    @property
    def api(self) -> str:
        """The API's address for clients on this machine."""
        return local_address(self.bind_addr, self.bind_port)

    @property
    def grader_ids(self) -> list[str]:
        return [f"{socket.gethostname()}-{number}" for number in range(1, self.graders + 1)]


@dataclass(frozen=True)
class Foundations:
    """The broker, store and engine of the services, and the graders' runtime.

    `node` is None if the broker is not started here, and `engine` if the runtime works without one and none is here.
    """

    amqp_url: str = field(repr=False)
    mongodb_dsn: str = field(repr=False)
    engine: Engine | None
    node: Broker | None
    runtime: Choice


@dataclass(frozen=True)
class Stack:
    """A running stack: the cluster token, the operators' token, and the broker, store and engine."""

    token: str = field(repr=False)
    operator_token: str = field(repr=False)
    foundations: Foundations


@asynccontextmanager
async def stack(options: UpOptions, say: Say) -> AsyncIterator[Stack]:
    """Run all services. At the end stop the graders first, since they drain, then the API, then the rest.

    Raises LocalError if a service does not start. A service that fails later is reported to `say` and restarted, with
    the same data and ports.
    """
    _require_free(options.bind_addr, options.bind_port)
    private(options.log_dir)
    token = options.token or kept(options.directory / "token")
    operator_token = options.operator_token or kept(options.directory / "operator-token")
    async with (
        _last(say, "Stopped."),
        Supervisor(say) as below,
        _last(say, "Stopping what was started below the API: broker, store, engine."),
        Supervisor(say) as control,
        _last(say, "Stopping the API."),
        Supervisor(say) as graders,
        _jobs_awaited(options, operator_token, say),
    ):
        foundations = await _foundations(below, options, say)
        await control.keep(partial(api, options, token, operator_token, foundations))
        await asyncio.gather(
            *(graders.keep(partial(grader, options, token, foundations, each)) for each in options.grader_ids)
        )
        yield Stack(token, operator_token, foundations)


@asynccontextmanager
async def _last(say: Say, sentence: str) -> AsyncIterator[None]:
    """Say a sentence when the context is cancelled, before what was entered earlier is stopped."""
    try:
        yield
    except asyncio.CancelledError:
        say(sentence)
        raise


@asynccontextmanager
async def _jobs_awaited(options: UpOptions, operator_token: str, say: Say) -> AsyncIterator[None]:
    """Say which jobs the graders are about to finish or give back, when the context is cancelled."""
    try:
        yield
    except asyncio.CancelledError:
        running = await _running(options, operator_token)
        jobs = "unknown" if running is None else ", ".join(f"{n} of {each}" for each, n in running.items()) or "none"
        say(f"Stopping the graders; they finish or give back their running jobs ({jobs}) within {DRAIN} s.")
        raise


async def _running(options: UpOptions, operator_token: str) -> dict[str, int] | None:
    """Return the number of running jobs of each own grader that has any; None if the API does not answer."""
    try:
        async with httpx2.AsyncClient(base_url=options.api, timeout=ANSWER) as client:
            answer = await client.get("/api/v2/graders", headers={"Authorization": f"Bearer {operator_token}"})
            graders = answer.raise_for_status().json()["graders"]
            return {each["id"]: len(each["running"]) for each in graders if each["running"]}
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        return None


async def _foundations(supervisor: Supervisor, options: UpOptions, say: Say) -> Foundations:
    """Start broker, store and engine concurrently, unless they are given. Every start has the same ports."""
    home, logs = options.directory, options.log_dir
    runtime, has_engine = await _runtime(options, say)
    ports = kept_ports(home / "ports.json", ("broker", "broker's management", "store"), say)
    run_broker = partial(broker, home / "broker", port=ports[0], management_port=ports[1], log=logs / "broker.log")
    run_store = partial(store, home / "store", port=ports[2], log=logs / "store.log")
    run_engine = partial(engine, home / "engine", log=logs / "engine.log")
    nodes = None if options.amqp_url else supervisor.keep(run_broker)
    stores = None if options.mongodb_dsn else supervisor.keep(run_store)
    engines = supervisor.keep(run_engine) if has_engine else None
    starting: list[asyncio.Future[Any] | None] = [nodes, stores, engines]
    await asyncio.gather(*filter(None, starting))
    node = await nodes if nodes else None
    amqp_url = node.amqp_url if node else str(options.amqp_url)
    mongodb_dsn = (await stores).dsn if stores else str(options.mongodb_dsn)
    return Foundations(amqp_url, mongodb_dsn, await engines if engines else None, node, runtime)


async def _runtime(options: UpOptions, say: Say) -> tuple[Choice, bool]:
    """Return the graders' runtime, and whether there is an engine; the only runtime without one is oci.

    Raises LocalError if the wish cannot be fulfilled.
    """
    crun = os.environ.get("BROADWAY_OCI_PROGRAM") or "crun"
    try:
        chosen = choose(options.runtime, await probe(crun, options.directory))
    except ContainerError as error:
        raise LocalError(str(error)) from error
    say(f"runtime: {chosen}")
    if chosen.runtime != OCI or not (reason := await unavailable()):
        return chosen, True
    if not _names_images() and which(SKOPEO) is None:
        raise LocalError(f"{reason}, or skopeo, which gets images without an engine")
    place = "the place in the environment" if _names_images() else "registries"
    say(f"{reason}. Without one, images come from {place}, and stages that ask for a network are refused.")
    return chosen, False


@asynccontextmanager
async def api(options: UpOptions, token: str, operator_token: str, foundations: Foundations) -> AsyncIterator[Child]:
    """Run the control plane, and yield once `/readyz` reports it as ready."""
    command = [
        *options.api_command,
        *("--bind-addr", options.bind_addr, "--bind-port", str(options.bind_port)),
        *("--log-dir", str(options.log_dir)),
        *(("--course-config", str(options.course_config)) if options.course_config else ()),
        *(("--original-graders", options.original_graders) if options.original_graders else ()),
    ]
    env = os.environ | {
        "BROADWAY_AMQP_URL": foundations.amqp_url,
        "BROADWAY_MONGODB_DSN": foundations.mongodb_dsn,
        "BROADWAY_TOKEN": token,
        "BROADWAY_OPERATOR_TOKEN": operator_token,
        **({"BROADWAY_MANAGEMENT_URL": foundations.node.administration} if foundations.node else {}),
    }
    async with child("the API", command, log=options.log_dir / "api.out", env=env, grace=15) as running:
        async with httpx2.AsyncClient(base_url=options.api) as client:
            await running.until(partial(_is_ready, client), within=START)
        yield running


@asynccontextmanager
async def grader(options: UpOptions, token: str, foundations: Foundations, grader_id: str) -> AsyncIterator[Child]:
    """Run a grader. It reports to the API itself once it is ready for jobs."""
    command = [
        *options.grader_command,
        *("--api-host", options.api, "--slots", str(options.slots)),
        *("--work-dir", str(options.directory / "work" / grader_id), "--log-dir", str(options.log_dir)),
        *_of_runtime(options, foundations),
    ]
    left_out = _OF_SERVICES | {"BROADWAY_RUNTIME"}  # it may be auto, which is decided by now
    env = {name: value for name, value in os.environ.items() if name not in left_out} | {
        **({"DOCKER_HOST": foundations.engine.docker_host} if foundations.engine else {}),
        "BROADWAY_TOKEN": token,
        "BROADWAY_GRADER_ID": grader_id,
    }
    log = options.log_dir / f"{grader_id}.out"
    async with child(f"grader {grader_id}", command, log=log, env=env, grace=DRAIN) as running:
        yield running


def _of_runtime(options: UpOptions, below: Foundations) -> tuple[str, ...]:
    """Return a grader's arguments for its runtime; all graders share one library of images."""
    if below.runtime.setting is None:
        return ()
    if below.runtime.runtime != OCI:
        return ("--runtime", below.runtime.setting)
    shared = () if os.environ.get("BROADWAY_IMAGES_DIR") else ("--images-dir", str(options.directory / "images"))
    source = () if below.engine or _names_images() else ("--images-source", REGISTRY)
    return ("--runtime", OCI, *shared, *source)


def _names_images() -> bool:
    """Return True if the environment, which graders share, names a place of images other than an engine."""
    source = os.environ.get("BROADWAY_IMAGES_SOURCE")
    return bool(os.environ.get("BROADWAY_OCI_LAYOUT") or (source and Place.of(source).kind != ENGINE))


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).is_success
    except httpx2.TransportError:
        return False


def _require_free(addr: str, port: int) -> None:
    try:
        socket.create_server((addr, port), family=socket.AF_INET6 if ":" in addr else socket.AF_INET).close()
    except OSError as error:
        raise LocalError(f"cannot listen on {addr} port {port}: {error.strerror}") from None
