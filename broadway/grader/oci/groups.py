"""The control group of one container: its limits, what it has used, and the end of all that is in it."""

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from broadway.grader.sandbox import cgroups
from broadway.grader.sandbox.cgroups import ROOT, kill, processes

OURS = "broadway-oci"
OWN = ("cpu", "cpuacct", "memory", "pids")  # hierarchies of version 1 with a group for each container
ASKED = "cpuset"  # … and where a stage asks for it
SHARED = "devices"  # … and with one for all of them
NEEDED = (*OWN, SHARED)
PERIOD = 100_000  # microseconds over which a CPU quota counts
_NANO, _MICRO = 1e-9, 1e-6
DYING = 0.002  # seconds between two looks at processes that were killed

# Of a container's devices: what may be made, as every engine has it, and what may be used.
DEVICES = ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
           "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """What the processes of a group have used: seconds, and bytes at their highest. None for what is not known."""

    cpu_seconds: float | None
    peak_memory: int | None
    oom_kills: int


@dataclass(frozen=True, slots=True)
class Group(ABC):
    """A container's group, by the container's name."""

    name: str

    @property
    def path(self) -> str:
        """For a runtime that makes the group itself."""
        return f"/{OURS}/{self.name}/{UnifiedGroup.INNER}"

    @abstractmethod
    def create(self, host_config: Mapping[str, Any]) -> None:
        """Make it, with the limits that are in the SDK's words.

        Raises:
            OSError: That is not possible.
        """

    @abstractmethod
    def enter(self) -> None:
        """Put the calling thread into it, if the runtime that it is about to start does not make groups itself."""

    @abstractmethod
    def mounts(self) -> list[dict[str, Any]]:
        """What a container sees of it, in the words of the runtime's specification."""

    @abstractmethod
    def directories(self) -> list[Path]:
        """All of it, the deepest first."""

    @abstractmethod
    def account(self) -> Account:
        """What its processes have used."""

    def kill(self) -> bool:
        """Kill all that is in it. Whether there was anything."""
        found = set(processes(self.directories()))
        for pid in found:
            kill(pid, f"/{OURS}/{self.name}")
        return bool(found)

    def remove(self, *, within: float) -> None:
        """Kill what is in it, and give it back.

        Raises:
            OSError: What is in it did not end in so many seconds.
        """
        deadline = time.monotonic() + within
        while True:
            try:
                for directory in self.directories():
                    with contextlib.suppress(FileNotFoundError):
                        os.rmdir(directory)  # noqa: PTH106 - many times a second
            except OSError:
                if time.monotonic() > deadline:
                    raise
                self.kill()
                time.sleep(DYING)
            else:
                return


def is_in(pid: int, name: str) -> bool:
    """Whether a process is in a container's group."""
    return cgroups.is_in(pid, f"/{OURS}/{name}")


class LegacyGroup(Group):
    """In version 1: a directory in each hierarchy, made here. A thread enters; what it starts is born there."""

    def create(self, host_config: Mapping[str, Any]) -> None:
        for hierarchy, values in _legacy_values(host_config).items():
            directory = f"{ROOT}/{hierarchy}/{OURS}/{self.name}"
            os.mkdir(directory)  # noqa: PTH102 - many times a second
            for file, value in values:
                _write(f"{directory}/{file}", value)

    def enter(self) -> None:
        for hierarchy in OWN:
            _write(f"{ROOT}/{hierarchy}/{OURS}/{self.name}/tasks", "0")
        with contextlib.suppress(FileNotFoundError):
            _write(f"{ROOT}/{ASKED}/{OURS}/{self.name}/tasks", "0")
        _write(f"{ROOT}/{SHARED}/{OURS}/tasks", "0")

    def mounts(self) -> list[dict[str, Any]]:
        options = ["nosuid", "noexec", "nodev"]
        place = ["ro", *options, "mode=755", "size=64k"]
        return [
            {"destination": f"{ROOT}", "type": "tmpfs", "source": "tmpfs", "options": place},
            *(
                {
                    "destination": f"{ROOT}/{hierarchy}",
                    "type": "bind",
                    "source": f"{ROOT}/{hierarchy}/{OURS}/{self.name}",
                    "options": ["bind", "ro", *options],
                }
                for hierarchy in OWN
            ),
        ]

    def directories(self) -> list[Path]:
        return [ROOT / hierarchy / OURS / self.name for hierarchy in (*OWN, ASKED)]

    def account(self) -> Account:
        cpu = _read(f"{ROOT}/cpuacct/{OURS}/{self.name}/cpuacct.usage")
        memory = f"{ROOT}/memory/{OURS}/{self.name}"
        return Account(
            cpu_seconds=int(cpu) * _NANO if cpu else None,
            peak_memory=int(_read(f"{memory}/memory.max_usage_in_bytes") or 0) or None,
            oom_kills=_named(_read(f"{memory}/memory.oom_control"), "oom_kill") or 0,
        )


def _legacy_values(host: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The files of each hierarchy and what goes into them, in order."""
    memory = str(host["mem_limit"])
    values = {
        "memory": [("memory.limit_in_bytes", memory)],
        "pids": [("pids.max", str(host["pids_limit"]))],
        "cpuacct": [],
        "cpu": [("cpu.shares", str(host["cpu_shares"]))],
    }
    if _limits_swap():
        values["memory"].append(("memory.memsw.limit_in_bytes", memory))
    if host.get("nano_cpus"):
        values["cpu"] += [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(quota(host["nano_cpus"])))]
    if host.get("cpuset_cpus"):
        nodes = (ROOT / ASKED / OURS / "cpuset.mems").read_text().strip()
        values[ASKED] = [("cpuset.mems", nodes), ("cpuset.cpus", host["cpuset_cpus"])]
    return values


def quota(nano_cpus: int) -> int:
    """Microseconds of CPU time in each period."""
    return max(1000, nano_cpus * PERIOD // 10**9)


@cache
def _limits_swap() -> bool:
    return (ROOT / "memory" / "memory.memsw.limit_in_bytes").exists()


def prepare() -> None:
    """Make the groups that have those of all containers.

    Raises:
        OSError: That is not possible.
    """
    if is_unified():
        return
    for hierarchy in (*NEEDED, ASKED):
        (ROOT / hierarchy / OURS).mkdir(exist_ok=True)
    for rule, file in (("a", "devices.deny"), *((rule, "devices.allow") for rule in DEVICES)):
        _write(f"{ROOT}/{SHARED}/{OURS}/{file}", rule)
    for file in ("cpuset.mems", "cpuset.cpus"):  # without any of its own, a group can give none
        if not (ROOT / ASKED / OURS / file).read_text().strip():
            _write(f"{ROOT}/{ASKED}/{OURS}/{file}", (ROOT / ASKED / file).read_text().strip())


class UnifiedGroup(Group):
    """In version 2: the runtime makes one within ours, which outlives it and so keeps the account."""

    INNER = "container"

    def create(self, host_config: Mapping[str, Any]) -> None:  # noqa: ARG002 - the runtime sets the limits
        (ROOT / OURS / self.name).mkdir(parents=True, exist_ok=True)

    def enter(self) -> None:
        pass

    def mounts(self) -> list[dict[str, Any]]:
        options = ["ro", "nosuid", "noexec", "nodev"]
        return [{"destination": str(ROOT), "type": "cgroup", "source": "cgroup", "options": options}]

    def directories(self) -> list[Path]:
        ours = ROOT / OURS / self.name
        return [ours / self.INNER, ours]

    def account(self) -> Account:
        ours = f"{ROOT}/{OURS}/{self.name}"
        cpu = _named(_read(f"{ours}/cpu.stat"), "usage_usec")
        return Account(
            cpu_seconds=None if cpu is None else cpu * _MICRO,
            peak_memory=int(_read(f"{ours}/memory.peak") or 0) or None,
            oom_kills=_named(_read(f"{ours}/memory.events"), "oom_kill") or 0,
        )


@cache
def is_unified() -> bool:
    """Whether this host has version 2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def group(name: str) -> Group:
    """The group of a container by that name, on this host."""
    return UnifiedGroup(name) if is_unified() else LegacyGroup(name)


def _named(text: str, name: str) -> int | None:
    """The number that a line of a name and a number has."""
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")]
    return int(found[0]) if found else None


def _read(file: str) -> str:
    """What is in a small file; nothing if this kernel has none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode().strip()
    finally:
        os.close(descriptor)


def _write(file: str, value: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
