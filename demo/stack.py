"""The demo's own Broadway: `broadway up`, as a child process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadway.local.secret import kept, write
from demo.pipelines import COURSE

START = 180.0  # seconds; the first start sets up its data
STOP = 120.0  # seconds; graders finish or give back their jobs
PORT = 1470  # Broadway's usual port, if it is free
TAIL = 15  # lines of a log


class StackError(Exception):
    """Broadway does not start, or has ended; the message has the end of its log."""


@dataclass(frozen=True)
class Stack:
    """A running Broadway; `facts` has its addresses, and `token` is the course's."""

    directory: Path
    token: str
    facts: dict[str, Any]
    process: subprocess.Popen[bytes]

    @property
    def api(self) -> str:
        return str(self.facts["api"])

    @property
    def docker_host(self) -> str:
        """The address of the engine, which builds the images.

        Raises:
            StackError: This machine has no engine.
        """
        if self.facts["docker_host"] is None:
            raise StackError("no Docker Engine answers or can be started, and the demo builds its images with one")
        return str(self.facts["docker_host"])

    @property
    def runtime(self) -> str:
        """The line with the graders' runtime and the reason for it."""
        lines = _log(self.directory).read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("runtime: ")), "runtime: unknown")

    def check(self) -> None:
        """Raise StackError if Broadway has ended."""
        if self.process.poll() is not None:
            raise _failure(f"`broadway up` ended with status {self.process.returncode}", self.directory)


@contextlib.contextmanager
def running(directory: Path, *, graders: int, slots: int, runtime: str = "auto") -> Iterator[Stack]:
    """Run Broadway with all its data in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    token = kept(directory / "course-token")
    courses, ready = directory / "courses.json", directory / f"ready-{os.getpid()}.json"
    write(courses, json.dumps({COURSE: {"tokens": [token], "query_tokens": []}}))
    ready.unlink(missing_ok=True)
    command = [
        str(Path(sys.executable).with_name("broadway")),
        *("up", "--directory", str(directory), "--bind-port", str(_port())),
        *("--graders", str(graders), "--slots", str(slots), "--runtime", runtime),
        *("--course-config", str(courses), "--json-ready", str(ready)),
    ]
    process = _start(command, _log(directory))
    try:
        yield Stack(directory, token, _await_ready(process, ready, directory), process)
    finally:
        _stop(process)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own: Ctrl-C reaches only the demo, which stops the child in order."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _await_ready(process: subprocess.Popen[bytes], ready: Path, directory: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START
    while not ready.exists():
        if process.poll() is not None:
            raise _failure(f"`broadway up` ended with status {process.returncode}", directory)
        if time.monotonic() > deadline:
            raise _failure(f"`broadway up` was not ready within {START:g} s", directory)
        time.sleep(0.1)
    facts: dict[str, Any] = json.loads(ready.read_text())
    return facts


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the child and its processes. Further signals are ignored meanwhile."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        process.terminate()
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _port() -> int:
    """Return a free port of this machine, the usual one if possible."""
    for port in (PORT, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as server:
            return int(server.getsockname()[1])
    raise StackError("no free port")


def _log(directory: Path) -> Path:
    return directory / "logs" / "up.log"


def logs(directory: Path) -> str:
    """Return the last lines of Broadway's log and of the two latest log files."""
    found = [path for path in (directory / "logs").glob("*") if path.is_file() and path.stat().st_size]
    latest = sorted(found, key=lambda path: path.stat().st_mtime)[-2:]
    shown = {_log(directory): None} | dict.fromkeys(latest)
    return "\n".join(f"--- {path}\n{_tail(path)}" for path in shown if path.exists())


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-TAIL:])


def _failure(event: str, directory: Path) -> StackError:
    return StackError(f"{event}; the end of {_log(directory)}:\n{_tail(_log(directory))}")
