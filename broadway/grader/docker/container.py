"""One stage's container: its live output, and the calls to the engine about it."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any

from docker.errors import APIError, NotFound
from docker.utils.socket import frames_iter
from requests.exceptions import ConnectionError as HTTPConnectionError
from requests.exceptions import Timeout
from urllib3.exceptions import ReadTimeoutError

from broadway.grader.docker import network
from broadway.grader.docker.engine import Client
from broadway.grader.sandbox.cgroups import Meter
from broadway.grader.sandbox.output import OutputLog

SIGNAL_WITHIN = 1.0  # seconds after a container's end within which the engine has recorded the signal that ended it
END_OF_INPUT = b"\x04"  # a terminal's
READS = 1024  # of a terminal's input that find its end; the kernel keeps about 4000
WAIT_SLICE = 10  # seconds of one wait; between two waits, a thread checks whether it has been abandoned


class Attachment:
    """The live output of one container: one thread drains it, and any other thread may cut it."""

    def __init__(self, raw: socket.SocketIO, *, is_terminal: bool) -> None:
        self._raw = raw
        self._is_terminal = is_terminal
        self._lock = threading.Lock()

    def end_input(self) -> None:
        """Let each read of a terminal's input find its end; the input of a pipe has ended from the beginning."""
        if not self._is_terminal:
            return
        with (
            contextlib.suppress(OSError),  # the container has ended
            socket.socket(fileno=os.dup(self._raw.fileno())) as duplicate,
        ):
            duplicate.sendall(END_OF_INPUT * READS)

    def drain(self, output: OutputLog, limit: int) -> bool:
        """Read until the output ends, is cut, or exceeds ``limit`` bytes, then close; return True if it did exceed."""
        try:
            for stream, data in self._frames():
                output.feed(stream, data, time.time_ns())
                if output.total > limit:
                    return True
        finally:
            self.close()
        return False

    def cut(self) -> None:
        """End the draining at once, even while it waits for output."""
        with (
            self._lock,
            contextlib.suppress(OSError, ValueError),
            socket.socket(fileno=os.dup(self._raw.fileno())) as duplicate,
        ):
            duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the SDK would leave that to the garbage collector."""
        with self._lock:
            if response := getattr(self._raw, "_response", None):
                response.close()
            self._raw.close()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        with contextlib.suppress(ConnectionError):  # the engine was killed
            yield from frames_iter(self._raw, tty=self._is_terminal)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class Container:
    """One stage's container. The methods call the engine and block, so they belong in threads."""

    client: Client
    name: str
    options: Mapping[str, Any]
    output: OutputLog
    output_limit: int
    disk_limit: float
    meter: Meter | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)  # see ``Labels``
    attachment: Attachment | None = None
    name_is_taken: bool = False
    killed: bool = False
    began_at: float = 0.0  # on the monotonic clock; before the engine recorded the container's creation
    abandoned: threading.Event = field(default_factory=threading.Event)

    def create(self) -> None:
        if self.options["host_config"].get("network_mode") == network.NAME:
            network.ensure(self.client)
        host_config = self.client.create_host_config(**self.options["host_config"])
        self.began_at = time.monotonic()
        try:
            self.client.create_container(**{**self.options, "name": self.name, "host_config": host_config})
        except APIError as error:
            self.name_is_taken = error.status_code == HTTPStatus.CONFLICT
            raise

    def attach(self) -> None:
        is_terminal = bool(self.options["tty"])
        streams = {"stdin": int(is_terminal), "stdout": 1, "stderr": 1, "stream": 1}
        self.attachment = Attachment(self.client.attach_socket(self.name, params=streams), is_terminal=is_terminal)

    def start(self) -> None:
        self.client.start(self.name)
        if self.attachment:
            self.attachment.end_input()

    def follow(self) -> bool:
        """Collect the output, wait for the end, and return True if there was too much output.

        A container with too much output is killed. Its attachment is closed first, since an engine ends a container
        only after its output has been read. A program that ended before the kill has still written too much.

        Raises:
            TimeoutError: The container was abandoned.
        """
        flooded = self.attachment is not None and self.attachment.drain(self.output, self.output_limit)
        if flooded:
            self.kill()
        while not self._wait():
            if self.abandoned.is_set():
                raise TimeoutError
        return flooded

    def kill(self) -> bool:
        """Kill the container; return False if it had ended by itself."""
        try:
            self.client.kill(self.name)
        except APIError as error:
            if error.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                return False
            raise
        self.killed = True
        return True

    def inspect(self) -> dict[str, Any]:
        """Return the engine's description of the container, including its end.

        Raises:
            InterruptedError: It was ended from outside: by an operator, or by an engine that shuts down.
        """
        details: dict[str, Any] = self.client.inspect_container(self.name)
        state = details["State"]
        if state["ExitCode"] and not self.killed and self._was_signalled(details):
            raise InterruptedError
        return details

    def written(self) -> int | None:
        """Return the bytes written outside of its mounts, including its volumes; None if it does not exist."""
        found = self.client.containers(all=True, size=True, filters={"name": f"^/{self.name}$"})
        listed = next((each for each in found if f"/{self.name}" in each["Names"]), None)
        if listed is None:
            return None
        volumes = {mount["Name"] for mount in listed["Mounts"] if mount["Type"] == "volume"}
        return int(listed.get("SizeRw", 0)) + (self._stored(volumes) if volumes else 0)

    def abandon(self) -> None:
        """Make ``follow`` return soon."""
        self.abandoned.set()
        if self.attachment:
            self.attachment.cut()

    def remove(self) -> None:
        """Remove the container at any stage of its life, unless its name belongs to a container of another owner."""
        if not self.name_is_taken:
            remove(self.client, self.name)
            if self.meter:
                self.meter.remove()
        if self.attachment:
            self.attachment.close()

    def _stored(self, volumes: set[str]) -> int:
        """Return the number of bytes in volumes; the engine reports sizes only for all its volumes together."""
        every = self.client.df()["Volumes"] or []
        return sum(max(0, each["UsageData"]["Size"]) for each in every if each["Name"] in volumes)

    def _was_signalled(self, details: Mapping[str, Any]) -> bool:
        """Return True if the engine has sent it a signal; signals of its own processes are not seen by the engine."""
        since, until = period(details, elapsed=time.monotonic() - self.began_at)
        kills = {"container": [self.name], "event": ["kill"]}
        events: Callable[..., Iterator[object]] = self.client.events  # times may be fractions, despite the type hints
        return any(events(since=f"{since:f}", until=f"{until:f}", filters=kills, decode=True))

    def _wait(self) -> bool:
        try:
            self.client.wait(self.name, timeout=WAIT_SLICE)
        except (ReadTimeoutError, Timeout):
            return False
        except HTTPConnectionError as error:
            if any(isinstance(arg, ReadTimeoutError) for arg in error.args):
                return False
            raise
        return True


def remove(client: Client, container: str) -> None:
    with contextlib.suppress(NotFound):
        client.remove_container(container, v=True, force=True)


def period(details: Mapping[str, Any], *, elapsed: float) -> tuple[float, float]:
    """Return the times between which an ended container may have been signalled, as Unix times of the engine's clock.

    An engine waits until the end of the period if that is in its future. The grader's clock may differ from the
    engine's, so the end follows from the engine's own times alone: the container's creation, after which ``elapsed``
    seconds have passed, and the container's end.
    """
    state = details["State"]
    created, started, finished = (
        datetime.fromisoformat(text).timestamp()
        for text in (details["Created"], state["StartedAt"], state["FinishedAt"])
    )
    return started, max(started, min(created + elapsed, finished + SIGNAL_WITHIN))
