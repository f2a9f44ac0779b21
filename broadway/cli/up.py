"""`broadway up`: all services on one machine, supervised until a signal stops them."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from broadway.cli import terminal
from broadway.cli.topology_repair import Inspector, expected_queues
from broadway.local.processes import LocalError, absolute
from broadway.local.secret import write
from broadway.local.stack import Foundations, Say, Stack, UpOptions, stack
from broadway.local.up_variables import VARIABLE, keep, locked
from broadway.management import ManagementError
from broadway.mongo.errors import StoreUnreachableError
from broadway.ports import StoreError
from broadway.runtime import supervision
from broadway.settings.loading import load
from broadway.settings.programs import ApiSettings

__all__ = ["UpOptions", "up"]

LINK_WITHIN = 5  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def up(options: UpOptions) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; return the exit status, 1 if a service could not be started."""
    say: Say = terminal.notice
    options = replace(options, directory=absolute(options.directory))
    supervision.arm()
    try:
        with locked(options.directory):
            await _until_signaled(options, say)
    except (LocalError, OSError) as error:
        say(f"broadway up: {error}")
        return 1
    return 0


async def _until_signaled(options: UpOptions, say: Say) -> None:
    """Run the stack. The first signal stops it; further signals change nothing."""
    running = asyncio.create_task(_run(options, say))

    def stop() -> None:
        if running.cancelling():
            say("Already stopping; `kill -9` would leave containers behind.")
        else:
            say("Stopping.")
            running.cancel()

    loop = asyncio.get_running_loop()
    for each in SIGNALS:
        loop.add_signal_handler(each, stop)
    try:
        await asyncio.wait({running})
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
        if not running.cancelling():
            running.cancel()
    if not running.cancelled():
        running.result()


async def _run(options: UpOptions, say: Say) -> None:
    say(f"Starting, in {options.directory} ...")
    async with stack(options, say) as running:
        facts = _facts(options, running) | {"sign_in": await _sign_in_link(options.api, running.operator_token)}
        keep(options.directory, _variables(options, running))
        await _apply_policies(running.foundations, say)
        with _announced(options.json_ready, facts):
            terminal.fields(_lines(facts))
            supervision.ready()
            supervision.status(f"ready: {options.api}")
            await supervision.report_alive()
            await asyncio.Event().wait()


def _variables(options: UpOptions, running: Stack) -> dict[str, str]:
    """Return the variables with which commands find the deployment."""
    below = running.foundations
    return {
        "BROADWAY_SERVER": options.api,
        "BROADWAY_OPERATOR_TOKEN": running.operator_token,
        "BROADWAY_TOKEN": running.token,
        "BROADWAY_AMQP_URL": below.amqp_url,
        "BROADWAY_MONGODB_DSN": below.mongodb_dsn,
        **({"DOCKER_HOST": below.engine.docker_host} if below.engine else {}),
        **({"BROADWAY_MANAGEMENT_URL": below.node.administration} if below.node else {}),
    }


async def _apply_policies(below: Foundations, say: Say) -> None:
    """Give the private broker the policies of its queues; a failure is reported, and no reason to stop."""
    if below.node is None:
        return
    addresses = ("--amqp-url", below.amqp_url, "--mongodb-dsn", below.mongodb_dsn)
    settings = load(ApiSettings, prog="broadway up", arguments=addresses)
    try:
        queues = await expected_queues(settings, shared=False)
        async with Inspector.connect(below.node.administration, settings, queues) as broker:
            report = await broker.apply()
    except (ManagementError, StoreError, StoreUnreachableError) as error:
        say(f"The policies of the broker are not applied: {error}")
        return
    for drift in report.drifts:
        say(f"The broker differs from the topology: {drift}")


async def _sign_in_link(api: str, token: str) -> str | None:
    """Return a link that signs an operator in once; None if the API does not make it, as one of another version."""
    try:
        async with httpx2.AsyncClient(base_url=api, timeout=LINK_WITHIN) as client:
            answer = await client.post("/api/v2/sign-in-links", headers={"Authorization": f"Bearer {token}"})
            return f"{api}/s/{answer.raise_for_status().json()['token']}"
    except (httpx2.HTTPError, ValueError, KeyError):
        return None


def _facts(options: UpOptions, running: Stack) -> dict[str, Any]:
    below = running.foundations
    return {
        "api": options.api,
        "token": running.token,
        "operator_token": running.operator_token,
        "amqp_url": below.amqp_url,
        "mongodb_dsn": below.mongodb_dsn,
        "docker_host": below.engine.docker_host if below.engine else None,
        "private_engine": bool(below.engine and below.engine.private),
        "runtime": below.runtime.runtime,
        "management_url": below.node.management_url if below.node else None,
        "management_user": below.node.username if below.node else None,
        "management_password_file": str(options.directory / "broker" / "password") if below.node else None,
        "graders": options.grader_ids,
        "slots": options.slots,
        "log_dir": str(options.log_dir),
        "directory": str(options.directory),
        "pid": os.getpid(),
    }


@contextmanager
def _announced(path: Path | None, facts: dict[str, Any]) -> Iterator[None]:
    """Keep `facts` in a file that only its owner can read, for as long as the context lasts."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(facts, indent=2) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "API", facts["api"]
    yield "Pages", f"{facts['api']}/ui, with a token of a course"
    if facts["sign_in"]:
        yield "Sign in", facts["sign_in"]
        yield "", "open this link in a browser of this machine: an operator, once, within an hour"
    if facts["management_url"]:
        yield "RabbitMQ", facts["management_url"]
        yield "", f"user {facts['management_user']}, password in {facts['management_password_file']}"
    if facts["docker_host"]:
        yield "Engine", facts["docker_host"] + (" (private)" if facts["private_engine"] else "")
    yield "Graders", f"{', '.join(facts['graders'])}, {facts['slots']} slots each, runtime {facts['runtime']}"
    yield "Logs", facts["log_dir"]
    yield "Commands", "in this directory, `broadway doctor`, `broadway course add` and others find all of it;"
    yield "", f"elsewhere with {VARIABLE}={facts['directory']}"
    yield "Stop", f"Ctrl-C, or kill {facts['pid']}"
