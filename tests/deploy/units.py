"""The units of deploy/systemd, run as systemd would run them, except for their limits."""

import contextlib
import os
import re
import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/broadway/bin/broadway"


@dataclass
class Unit:
    """A unit with its drop-ins. ``name`` has the instance, as in `broadway@api`."""

    name: str
    options: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, name: str) -> "Unit":
        template, _, instance = name.partition("@")
        own = UNITS / f"{template}{'@' if instance else ''}.service"
        files = [own, *sorted((UNITS / f"{name}.service.d").glob("*.conf"))]
        return cls(name, [option for file in files for option in options_of(file)])

    def values(self, option: str) -> list[str]:
        return [value for name, value in self.options if name == option]

    def command(self, program: Path, state: Path) -> list[str]:
        """Return ExecStart with our own program, and %S in a directory of the test."""
        (line,) = self.values("ExecStart")
        assert line.startswith(f"{PROGRAM} ")
        words = shlex.split(self._expanded(line, state))[1:]
        return [str(program), *(word for word in words if not word.startswith("$"))]

    def environment(self, state: Path, credentials: Mapping[str, str]) -> dict[str, str]:
        """Return the unit's environment, with its credentials as systemd would load them from /etc/broadway."""
        (state / "credentials").mkdir(parents=True, exist_ok=True)
        for value in self.values("LoadCredential"):
            name, _, source = value.partition(":")
            (state / "credentials" / name).write_text(credentials[Path(source).name] + "\n")
        pairs = (self._expanded(value, state).partition("=") for value in self.values("Environment"))
        return {name: value for name, _, value in pairs}

    def _expanded(self, text: str, state: Path) -> str:
        known = {"%i": self.name.partition("@")[2], "%S": str(state), "%d": str(state / "credentials")}
        return re.sub(r"%.", lambda found: known[found[0]], text)


def options_of(file: Path) -> list[tuple[str, str]]:
    lines = (line.partition("=") for line in file.read_text().splitlines() if line and line[0] not in "#[")
    return [(name, value) for name, _, value in lines]


@dataclass
class Supervisor:
    """The socket at which systemd would listen to a unit."""

    path: Path
    channel: socket.socket
    heard: list[str] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def listening(cls, path: Path) -> Iterator["Supervisor"]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(str(path))
            channel.setblocking(False)
            yield cls(path, channel)

    @property
    def environment(self) -> dict[str, str]:
        """What systemd would pass to the unit's process, with a short watchdog."""
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": "300000"}

    def read(self) -> list[str]:
        """Return all reports until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self.channel.recv(4096).decode().strip())
        return self.heard

    def is_ready(self) -> bool:
        return "READY=1" in self.read()

    def is_alive(self) -> bool:
        """Return whether the process reported twice that it is alive."""
        return self.read().count("WATCHDOG=1") > 1


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a host on which Broadway is only installed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("BROADWAY_", "PYTHON"))}
    return own | dict(environment)
