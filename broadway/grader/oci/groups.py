"""The control group of one container: its limits, its resource usage, and the end of its processes."""

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
OWN = ("cpu", "cpuacct", "memory", "pids")  # hierarchies of version 1 with one group for each container
OPTIONAL = "cpuset"  # the hierarchy with a group only for stages that ask for certain CPUs
SHARED = "devices"  # the hierarchy with one group for all containers
NEEDED = (*OWN, SHARED)
CONTROLLERS = ("cpu", "memory", "pids")  # of version 2
PERIOD = 100_000  # microseconds of the period of a CPU quota
_NANO, _MICRO = 1e-9, 1e-6
KILL_INTERVAL = 0.002  # seconds between checks of killed processes

# The device nodes that a container may make, as with every engine, and the devices that it may use.
DEVICES = ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
           "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """The resource usage of a group: CPU time in seconds, and peak memory in bytes. None for unknown values."""

    cpu_seconds: float | None
    peak_memory: int | None
    oom_kills: int


@dataclass(frozen=True, slots=True)
class Group(ABC):
    """A container's group, by the container's name."""

    name: str

    @property
    def path(self) -> str:
        """The path for a runtime that creates the group itself."""
        return f"/{OURS}/{self.name}/{UnifiedGroup.INNER}"

    @abstractmethod
    def create(self, host_config: Mapping[str, Any]) -> None:
        """Create the group with the limits in ``host_config``, which has the SDK's format.

        Raises:
            OSError: The system refuses.
        """

    @abstractmethod
    def enter(self) -> None:
        """Move the calling thread into the group, if the runtime does not create groups itself."""

    @abstractmethod
    def mounts(self) -> list[dict[str, Any]]:
        """Return the mounts that show the group to its container, in the format of the runtime's specification."""

    @abstractmethod
    def directories(self) -> list[Path]:
        """Return the directories of the group, the deepest first."""

    @abstractmethod
    def account(self) -> Account:
        """Return the resource usage of its processes."""

    def kill(self) -> bool:
        """Kill all processes of the group; return True if there were any."""
        found = set(processes(self.directories()))
        for pid in found:
            kill(pid, f"/{OURS}/{self.name}")
        return bool(found)

    def remove(self, *, within: float) -> None:
        """Kill the processes of the group, and remove it.

        Raises:
            OSError: The group could not be removed within ``within`` seconds.
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
                time.sleep(KILL_INTERVAL)
            else:
                return


def is_in(pid: int, name: str) -> bool:
    """Return True if a process is in a container's group."""
    return cgroups.is_in(pid, f"/{OURS}/{name}")


class LegacyGroup(Group):
    """A group in version 1: a directory in each hierarchy. A thread enters it, and its child processes inherit it."""

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
            _write(f"{ROOT}/{OPTIONAL}/{OURS}/{self.name}/tasks", "0")
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
        return [ROOT / hierarchy / OURS / self.name for hierarchy in (*OWN, OPTIONAL)]

    def account(self) -> Account:
        cpu = _read(f"{ROOT}/cpuacct/{OURS}/{self.name}/cpuacct.usage")
        memory = f"{ROOT}/memory/{OURS}/{self.name}"
        return Account(
            cpu_seconds=int(cpu) * _NANO if cpu else None,
            peak_memory=int(_read(f"{memory}/memory.max_usage_in_bytes") or 0) or None,
            oom_kills=_named(_read(f"{memory}/memory.oom_control"), "oom_kill") or 0,
        )


def _legacy_values(host: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return the files to write for each hierarchy, in order, with their contents."""
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
        nodes = (ROOT / OPTIONAL / OURS / "cpuset.mems").read_text().strip()
        values[OPTIONAL] = [("cpuset.mems", nodes), ("cpuset.cpus", host["cpuset_cpus"])]
    return values


def quota(nano_cpus: int) -> int:
    """Return the CPU quota of each period, in microseconds."""
    return max(1000, nano_cpus * PERIOD // 10**9)


@cache
def _limits_swap() -> bool:
    return (ROOT / "memory" / "memory.memsw.limit_in_bytes").exists()


def prepare() -> None:
    """Create the parent groups of all containers' groups.

    Raises:
        OSError: The system refuses.
    """
    if is_unified():
        return
    for hierarchy in (*NEEDED, OPTIONAL):
        (ROOT / hierarchy / OURS).mkdir(exist_ok=True)
    for rule, file in (("a", "devices.deny"), *((rule, "devices.allow") for rule in DEVICES)):
        _write(f"{ROOT}/{SHARED}/{OURS}/{file}", rule)
    for file in ("cpuset.mems", "cpuset.cpus"):  # a group without CPUs of its own cannot pass any on
        if not (ROOT / OPTIONAL / OURS / file).read_text().strip():
            _write(f"{ROOT}/{OPTIONAL}/{OURS}/{file}", (ROOT / OPTIONAL / file).read_text().strip())


class UnifiedGroup(Group):
    """A group in version 2: the runtime creates its group within this one, which outlives it and keeps the usage."""

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
    """Return True if this host has only version 2 of control groups."""
    return (ROOT / "cgroup.controllers").exists()


def group(name: str) -> Group:
    """Return the group of a container on this host, by the container's name."""
    return UnifiedGroup(name) if is_unified() else LegacyGroup(name)


def _named(text: str, name: str) -> int | None:
    """Return the number on the line that begins with ``name``, or None."""
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")]
    return int(found[0]) if found else None


def _read(file: str) -> str:
    """Return the content of a small file; empty if this kernel does not have it."""
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
