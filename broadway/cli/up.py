"""`broadway up`: all services on one machine, supervised until a signal stops them."""

import asyncio
import fcntl
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
from broadway.local.processes import LocalError, absolute
from broadway.local.secret import write
from broadway.local.stack import Say, Stack, UpOptions, stack

__all__ = ["UpOptions", "up"]

LINK_WITHIN = 5  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def up(options: UpOptions) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; return the exit status, 1 if a service could not be started."""
    say: Say = terminal.notice
    options = replace(options, directory=absolute(options.directory))
    try:
        with _locked(options.directory):
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
            say("Already stopping.")
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
        with _announced(options.json_ready, facts):
            terminal.fields(_lines(facts))
            await asyncio.Event().wait()


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
        "docker_host": below.engine.docker_host,
        "private_engine": below.engine.private,
        "management_url": below.node.management_url if below.node else None,
        "management_user": below.node.username if below.node else None,
        "management_password_file": str(options.directory / "broker" / "password") if below.node else None,
        "graders": options.grader_ids,
        "slots": options.slots,
        "log_dir": str(options.log_dir),
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


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; raise LocalError if another process holds it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(f"another `broadway up` runs in {directory}") from None
        yield


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "API", facts["api"]
    yield "Pages", f"{facts['api']}/ui, with a token of a course"
    if facts["sign_in"]:
        yield "", f"{facts['sign_in']} signs an operator in, once, within an hour"
    if facts["management_url"]:
        yield "RabbitMQ", facts["management_url"]
        yield "", f"user {facts['management_user']}, password in {facts['management_password_file']}"
    yield "Engine", facts["docker_host"] + (" (private)" if facts["private_engine"] else "")
    yield "Graders", f"{', '.join(facts['graders'])}, {facts['slots']} slots each"
    yield "Logs", facts["log_dir"]
    yield "Stop", f"Ctrl-C, or kill {facts['pid']}"
