"""A container's ``config.json`` for an OCI runtime, made from the same options that a Docker Engine gets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadway.grader.oci.accounts import User, resolve
from broadway.grader.oci.groups import DEVICES, PERIOD, Group, quota
from broadway.grader.sandbox.programs import INIT

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPARMOR = "docker-default"
_LOADED = Path("/sys/kernel/security/apparmor/profiles")

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = ("mount", "network", "uts", "pid", "ipc", "cgroup")
SYSCTL = {"net.ipv4.ip_unprivileged_port_start": "0"}  # any user may bind low ports, as with an engine
_NOTHING = ["nosuid", "noexec", "nodev"]
# The host's terminals are counted for all its containers together.
_PSEUDO_TERMINALS = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "max=64"]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's defaults for its containers, and its passwd and group files."""

    env: Sequence[str] = ()
    user: str = ""
    working_dir: str = ""
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    passwd: str = ""
    group: str = ""

    def as_of_engine(self) -> dict[str, Any]:
        """Return the parts that decide about the program, in an engine's form."""
        return {"Env": self.env, "WorkingDir": self.working_dir, "Entrypoint": self.entrypoint, "Cmd": self.cmd}


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of the host from which a container is created."""

    root: Path
    hostname: Path  # a file with its host name
    init: Path  # a statically linked program that reaps processes
    group: Group
    seccomp: str  # a filter in base64


def runtime_spec(options: Mapping[str, Any], image: ImageConfig, place: Place) -> dict[str, Any]:
    """Return the content of ``config.json`` for a container.

    Args:
        options: The result of ``profile.container_options``.
        image: The image's defaults, which the options override.
        place: The parts of the host for the container.

    Raises:
        UnknownUserError: The image names a user that it does not have.
    """
    host = options["host_config"]
    user = resolve(options.get("user") or image.user, passwd=image.passwd, group=image.group)
    return {
        "ociVersion": "1.0.2",
        "process": _process(options, image, user),
        "root": {"path": str(place.root), "readonly": bool(host.get("read_only"))},
        "hostname": options["hostname"],
        "mounts": list(_mounts(host, place)),
        "annotations": {"run.oci.seccomp_bpf_data": place.seccomp},
        "linux": {
            "cgroupsPath": place.group.path,
            "namespaces": [{"type": namespace} for namespace in NAMESPACES],
            "sysctl": SYSCTL,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": _resources(host),
        },
    }


def command(options: Mapping[str, Any], image: ImageConfig) -> list[str]:
    """Return the command: the stage's entrypoint, or the image's entrypoint and arguments; empty if it has none."""
    return list(options["entrypoint"] or [*image.entrypoint, *image.cmd])


def environment(options: Mapping[str, Any], image: ImageConfig, home: str) -> dict[str, str]:
    """Return the variables: an engine's defaults, then the image's, then the stage's, where None unsets a variable."""
    variables = {"PATH": PATH, "HOSTNAME": options["hostname"], **({"TERM": "xterm"} if options["tty"] else {})}
    variables |= {name: value for name, _, value in (entry.partition("=") for entry in image.env)}
    for name, value in options["environment"].items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = str(value)
    return {"HOME": home, **variables}


def _process(options: Mapping[str, Any], image: ImageConfig, user: User) -> dict[str, Any]:
    host = options["host_config"]
    capabilities = [f"CAP_{name}" for name in host.get("cap_add", ())]
    arguments = command(options, image)
    return {
        "terminal": False,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": [INIT, "--", *arguments] if host.get("init") else arguments,
        "env": [f"{name}={value}" for name, value in environment(options, image, user.home).items()],
        "cwd": options.get("working_dir") or image.working_dir or "/",
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities if user.uid == 0 else [],
            "permitted": capabilities if user.uid == 0 else [],
        },
        "rlimits": [
            {"type": f"RLIMIT_{limit['name'].upper()}", "soft": limit["soft"], "hard": limit["hard"]}
            for limit in host["ulimits"]
        ],
        "noNewPrivileges": True,
        "oomScoreAdj": host["oom_score_adj"],
        **({"apparmorProfile": APPARMOR} if _has_apparmor() else {}),
    }


def _mounts(host: Mapping[str, Any], place: Place) -> Iterator[dict[str, Any]]:
    yield _mount("/proc", "proc", _NOTHING)
    yield _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"])
    yield _mount("/dev/pts", "devpts", ["nosuid", "noexec", *_PSEUDO_TERMINALS])
    yield _mount("/sys", "sysfs", [*_NOTHING, "ro"])
    yield from place.group.mounts()
    yield _mount("/dev/mqueue", "mqueue", _NOTHING)
    yield _mount("/dev/shm", "tmpfs", [*_NOTHING, "mode=1777", f"size={host['shm_size']}"])  # noqa: S108 - in the container
    for target, tmpfs in host.get("tmpfs", {}).items():
        yield _mount(target, "tmpfs", tmpfs.split(","))
    yield _bind("/etc/hostname", place.hostname, read_only=True)
    if host.get("init"):
        yield _bind(INIT, place.init, read_only=True)
    for mount in host["mounts"]:
        yield _bind(mount["Target"], mount["Source"], read_only=mount["ReadOnly"])


def _mount(destination: str, kind: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _bind(destination: str, source: Path | str, *, read_only: bool) -> dict[str, Any]:
    options = ["rbind", "rprivate", *(["ro"] if read_only else [])]
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}


def _resources(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits for a runtime that creates the control group itself."""
    return {
        "memory": {"limit": host["mem_limit"], "swap": host["memswap_limit"]},
        "pids": {"limit": host["pids_limit"]},
        "cpu": {
            "shares": host["cpu_shares"],
            **({"quota": quota(host["nano_cpus"]), "period": PERIOD} if host.get("nano_cpus") else {}),
            **({"cpus": host["cpuset_cpus"]} if host.get("cpuset_cpus") else {}),
        },
        "devices": [{"allow": False, "access": "rwm"}, *map(_device, DEVICES)],
    }


def _device(rule: str) -> dict[str, Any]:
    kind, numbers, access = rule.split()
    major, minor = numbers.split(":")
    named = {name: int(text) for name, text in (("major", major), ("minor", minor)) if text != "*"}
    return {"allow": True, "type": kind, "access": access, **named}


def _has_apparmor() -> bool:
    """Return True if an engine has loaded its AppArmor profile for containers into this kernel."""
    try:
        return any(line.startswith(f"{APPARMOR} ") for line in _LOADED.read_text().splitlines())
    except OSError:
        return False
