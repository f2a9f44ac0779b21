"""Section 5 of the CIS Docker Benchmark, for every kind of container that Broadway starts, as the engine reports it.

A table lists the accepted deviations, each with its reason. For containers without an engine, the runtime's
specification is checked in the same way.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from harness import until

from broadway.grader.docker.containers import DockerContainers
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import grade
from broadway.grader.oci.containers import OciContainers
from broadway.grader.oci.host import STATE
from broadway.grader.ports import Containers, Labels, Limits
from broadway.grader.sandbox.seccomp import STRICT_RULES, compile_filter, engine_profile

Account = dict[str, Any]
Stages = list[dict[str, Any]]
LABELS = Labels("benchmark", "this-life", "job", "benchmark", 0, user=71234)
WAITS = {"entrypoint": ["sleep", "1000"], "timeout": 600}
PREPARES = {"entrypoint": ["mkdir", "/job/in"], "networking": False}
STRICT: Stages = [PREPARES, {**WAITS, "untrusted": True, "read": ["in"], "write": ["out"]}]

# The last stage is inspected while it runs; a privileged one, which not every host can start, once it is created.
KINDS: dict[str, Stages] = {
    "standard": [WAITS],
    "standard without network": [{**WAITS, "networking": False}],
    "strict": STRICT,
    "privileged": [{**WAITS, "networking": False}, {**WAITS, "privileged": True}],
}
NEVER_STARTED = {"privileged"}


@contextlib.asynccontextmanager
async def running(stages: Stages, containers: Containers, image: str, directory: Path) -> AsyncIterator[str]:
    """Run a job as a grader runs it, again whenever it ends; yield the name of its last stage's container."""
    of_image = [{"image": image, **stage} for stage in stages]

    async def run() -> None:
        with contextlib.closing(Directories(directory)) as directories:
            while True:
                await grade(of_image, containers=containers, directories=directories, labels=LABELS)

    task = asyncio.create_task(run())
    try:
        yield f"broadway-{LABELS.execution_id}-{len(stages) - 1}"
    finally:
        task.cancel()
        await asyncio.wait({task})


def inspect(api: docker.APIClient, name: str, state: str) -> Account | None:
    """Return the description of a container and its programs; None if there is no such container in this state."""
    try:
        inspected = api.inspect_container(name)
        programs = api.top(name)["Processes"] if state == "running" else []
    except docker.errors.APIError:  # such as NotFound: it has been removed
        return None
    return {**inspected, "Programs": programs} if inspected["State"]["Status"] == state else None


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def account(
    kind: str, api: docker.APIClient, docker_host: str, hostile_image: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Account]:
    """The engine's description of a container, of itself, and of the programs in the container."""
    work, limits = tmp_path_factory.mktemp("work"), Limits(allow_privileged=True)
    async with (
        DockerContainers.connect(slots=2, limits=limits, docker_host=docker_host, work_dir=work) as containers,
        running(KINDS[kind], containers, hostile_image, work / "job") as name,
    ):
        state = "created" if kind in NEVER_STARTED else "running"
        # A container that cannot be started exists for a moment, and again in the next run of the job.
        found = await until(lambda: inspect(api, name, state))
        yield {**found, "Engine": api.info()}


CHECKS: dict[str, Callable[[Account, dict[str, Any]], bool]] = {
    "5.1 AppArmor": lambda a, _: a["AppArmorProfile"] != "unconfined" and (not _has(a, "apparmor") or _is_confined(a)),
    "5.2 SELinux": lambda a, _: not _has(a, "selinux") or bool(a["ProcessLabel"]),
    "5.3 capabilities": lambda _, h: h["CapDrop"] == ["ALL"] and not set(h["CapAdd"] or []) & DANGEROUS,
    "5.4 not privileged": lambda _, h: not h["Privileged"],
    "5.5 no sensitive directories": lambda _, h: not any(_is_sensitive(m["Source"]) for m in h["Mounts"]),
    "5.6 no sshd": lambda a, _: not any("sshd" in text for program in a["Programs"] for text in program),
    "5.7 no privileged ports": lambda a, _: not a["NetworkSettings"]["Ports"],
    "5.8 no ports": lambda a, h: not a["Config"].get("ExposedPorts") and not h["PublishAllPorts"],
    "5.9 no network of the host": lambda _, h: h["NetworkMode"] != "host",
    "5.10 memory": lambda _, h: 0 < h["Memory"] == h["MemorySwap"],
    "5.11 cpu": lambda _, h: h["CpuShares"] > 0,
    "5.12 root file system": lambda _, h: bool(h["ReadonlyRootfs"]),
    "5.13 no interface of the host": lambda _, h: not h["PortBindings"],
    "5.14 no restarts": lambda _, h: h["RestartPolicy"]["Name"] == "no",
    "5.15 no processes of the host": lambda _, h: h["PidMode"] == "",
    "5.16 no shared memory of the host": lambda _, h: h["IpcMode"] == "private",
    "5.17 no devices": lambda _, h: not h["Devices"] and not h["DeviceRequests"],
    "5.18 limits": lambda _, h: {"core", "fsize", "nofile"} <= {limit["Name"] for limit in h["Ulimits"]},
    "5.19 no shared mounts": lambda _, h: all(m["BindOptions"]["Propagation"] == "rprivate" for m in h["Mounts"]),
    "5.20 no names of the host": lambda _, h: h["UTSMode"] == "",
    "5.21 seccomp": lambda _, h: not h["Privileged"] and "seccomp=unconfined" not in h["SecurityOpt"],
    "5.22 no privileged exec": lambda a, _: not a["ExecIDs"],
    "5.23 no exec as root": lambda a, _: not a["ExecIDs"],
    "5.24 control groups": lambda a, h: h["CgroupParent"] in _own_groups(a) and h["CgroupnsMode"] == "private",
    "5.25 no new privileges": lambda _, h: "no-new-privileges:true" in (h["SecurityOpt"] or []),
    "5.26 health": lambda a, _: a["Config"].get("Healthcheck", {}).get("Test") != ["NONE"],
    "5.28 processes": lambda _, h: 0 < h["PidsLimit"] <= 512,
    "5.29 no default bridge": lambda a, _: "bridge" not in a["NetworkSettings"]["Networks"],
    "5.30 no users of the host": lambda _, h: h["UsernsMode"] != "host",
    "5.31 no socket of the engine": lambda _, h: not any("docker.sock" in m["Source"] for m in h["Mounts"]),
}
NOT_A_CONTAINERS = {"5.27": "new images: refreshed every ten minutes, test_a_refresh_delays_no_job"}
DANGEROUS = {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_MODULE", "SYS_PTRACE", "MKNOD", "DAC_READ_SEARCH", "SYS_CHROOT"}
SENSITIVE = ("/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/var/run", "/run")

_WRITES = "stages of courses install and build where their images let them; --disk-limit bounds that"
_ASKED = "the course asks for privileges, and the operator allows them"
_NO_HEALTH = "a stage ends by itself or is killed when its time is up; nobody would act on its health"
_BRIDGE = "the operator may give no stage a network (--no-network); a network for each job would cost each its start"
ACCEPTED: dict[tuple[str, str], str] = {
    ("standard", "5.12"): _WRITES,
    ("standard without network", "5.12"): _WRITES,
    ("privileged", "5.12"): _WRITES,
    ("standard", "5.26"): _NO_HEALTH,
    ("standard without network", "5.26"): _NO_HEALTH,
    ("strict", "5.26"): _NO_HEALTH,
    ("privileged", "5.26"): _NO_HEALTH,
    ("standard", "5.29"): _BRIDGE,
    ("privileged", "5.29"): _BRIDGE,
    ("privileged", "5.1"): _ASKED,
    ("privileged", "5.2"): _ASKED,
    ("privileged", "5.3"): _ASKED,
    ("privileged", "5.4"): _ASKED,
    ("privileged", "5.21"): _ASKED,
    ("privileged", "5.25"): _ASKED,
}
OF_THE_HOST = {"5.1", "5.2"}  # every container passes on a host that has neither


def _has(account: Account, feature: str) -> bool:
    return f"name={feature}" in (account["Engine"]["SecurityOptions"] or [])


def _is_confined(account: Account) -> bool:
    """Return True if the container has a profile, or is not started yet: it gets one at its start."""
    return bool(account["AppArmorProfile"]) or account["State"]["Status"] == "created"


def _own_groups(account: Account) -> set[str]:
    """Return the group around the container's own, if there is one. It contains no other container."""
    return {f"/broadway{account['Name']}"} if account["Engine"]["CgroupDriver"] == "cgroupfs" else {""}


def _is_sensitive(source: str) -> bool:
    return source == "/" or any(Path(source).is_relative_to(place) for place in SENSITIVE)


def _number(check: str) -> str:
    return check.partition(" ")[0]


@pytest.mark.parametrize("check", CHECKS)
async def test_a_container_passes_the_check(check: str, kind: str, account: Account) -> None:
    number, passes = _number(check), CHECKS[check](account, account["HostConfig"])
    if (kind, number) not in ACCEPTED:
        assert passes, account["HostConfig"]
    elif number not in OF_THE_HOST:
        assert not passes, "what is accepted should be so"


def test_every_check_of_the_section_is_listed() -> None:
    assert {*map(_number, CHECKS), *NOT_A_CONTAINERS} == {f"5.{number}" for number in range(1, 32)}
    assert {number for _, number in ACCEPTED} <= set(map(_number, CHECKS))
    assert {*map(_number, SPECIFIED), *NOT_SPECIFIED} == {f"5.{number}" for number in range(1, 32)}


async def test_a_container_has_only_the_stages_variables(account: Account) -> None:
    names = {entry.partition("=")[0] for entry in account["Config"]["Env"] or []}
    assert names <= {"PATH", "HOME"}


async def test_only_the_expected_files_are_mounted(kind: str, account: Account) -> None:
    """Only the job's directories, or those that a stage may see, and a hosts file if there is no network."""
    seen = {mount["Target"]: mount.get("ReadOnly", False) for mount in account["HostConfig"]["Mounts"]}
    hosts = {"/etc/hosts": True}
    assert (
        seen
        == {
            "standard": {"/job": False},
            "standard without network": {"/job": False, **hosts},
            "strict": {"/job/in": True, "/job/out": False, **hosts},
            "privileged": {"/job": False},
        }[kind]
    )


async def test_4_1_a_user_that_is_not_root(kind: str, account: Account) -> None:
    assert account["Config"]["User"] == ("71234:71234" if kind == "strict" else "")


async def test_strict_has_no_capabilities_no_network_and_the_graders_own_filter(kind: str, account: Account) -> None:
    if kind == "strict":
        assert not account["HostConfig"]["CapAdd"]
        assert account["Config"]["NetworkDisabled"]
        assert f"seccomp={engine_profile()}" in account["HostConfig"]["SecurityOpt"]


# Checks that do not apply to the specification that a runtime without an engine gets.
NOT_SPECIFIED = {
    "5.2": "no labels: what the runtime does on hosts with SELinux is its own",
    "5.6": "as of the engine's, which run the same images",
    "5.14": "nobody restarts",
    "5.22": "nobody enters a container",
    "5.23": "nobody enters a container",
    "5.26": "nobody would act on it",
    "5.27": "as of the engine's",
    "5.30": "no runtime is asked to map users",
}
NETWORK = {"5.7", "5.8", "5.9", "5.13", "5.29"}
SPECIFIED: dict[str, Callable[[Account, dict[str, Any]], bool]] = {
    "5.1 AppArmor": lambda s, _: s["process"].get("apparmorProfile") == _apparmor(),
    "5.3 capabilities": lambda s, _: not _capabilities(s) & {f"CAP_{each}" for each in DANGEROUS},
    "5.4 not privileged": lambda _, x: {"/proc/kcore", "/sys/firmware"} <= set(x["maskedPaths"]) and _is_kept_out(x),
    "5.5 no sensitive directories": lambda s, x: all("ro" in m["options"] for m in _sensitive(s, x)),
    **{f"{each} no network": lambda _, x: {"type": "network"} in x["namespaces"] for each in sorted(NETWORK)},
    "5.10 memory": lambda _, x: 0 < x["resources"]["memory"]["limit"] == x["resources"]["memory"]["swap"],
    "5.11 cpu": lambda _, x: x["resources"]["cpu"]["shares"] > 0,
    "5.12 root file system": lambda s, _: bool(s["root"]["readonly"]),
    "5.15 no processes of the host": lambda _, x: {"type": "pid"} in x["namespaces"],
    "5.16 no shared memory of the host": lambda _, x: {"type": "ipc"} in x["namespaces"],
    "5.17 no devices": lambda _, x: "devices" not in x and not x["resources"]["devices"][0]["allow"],
    "5.18 limits": lambda s, _: {"RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE"} <= _rlimits(s),
    "5.19 no shared mounts": lambda s, _: not any(set(m["options"]) & {"shared", "rshared"} for m in s["mounts"]),
    "5.20 no names of the host": lambda _, x: {"type": "uts"} in x["namespaces"],
    "5.21 seccomp": lambda s, _: s["annotations"]["run.oci.seccomp_bpf_data"] == _own_filter(s),
    "5.24 control groups": lambda _, x: x["cgroupsPath"].startswith("/broadway-oci/broadway-benchmark-"),
    "5.25 no new privileges": lambda s, _: s["process"]["noNewPrivileges"] is True,
    "5.28 processes": lambda _, x: 0 < x["resources"]["pids"]["limit"] <= 512,
    "5.31 no socket of the engine": lambda s, _: not any("docker.sock" in m["source"] for m in s["mounts"]),
}
OCI_KINDS = ("standard without network", "strict")


def _own_filter(spec: Account) -> str:
    is_strict = spec["process"]["user"]["uid"] == LABELS.user
    return compile_filter(STRICT_RULES, allow_32_bit=False) if is_strict else compile_filter()


def _apparmor() -> str | None:
    with contextlib.suppress(OSError):
        loaded = Path("/sys/kernel/security/apparmor/profiles").read_text()
        return "docker-default" if "docker-default " in loaded else None
    return None


def _capabilities(spec: Account) -> set[str]:
    return {each for kind in spec["process"]["capabilities"].values() for each in kind}


def _is_kept_out(linux: Mapping[str, Any]) -> bool:
    return "/proc/sys" in linux["readonlyPaths"] and {"type": "mount"} in linux["namespaces"]


def _sensitive(spec: Account, linux: Mapping[str, Any]) -> list[Account]:
    """Return the mounts of sensitive directories of the host. The job's own directories do not count."""
    assert linux["namespaces"]
    binds = [mount for mount in spec["mounts"] if mount["type"] == "bind"]
    return [mount for mount in binds if _is_sensitive(mount["source"]) and "/job" not in mount["destination"]]


def _rlimits(spec: Account) -> set[str]:
    return {limit["type"] for limit in spec["process"]["rlimits"]}


@pytest.fixture(params=OCI_KINDS, scope="module")
def oci_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def spec(
    oci_kind: str, docker_host: str, hostile_image: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Account]:
    """The specification that the runtime got for a running container."""
    work = tmp_path_factory.mktemp("work")
    async with (
        OciContainers.connect(slots=2, limits=Limits(), docker_host=docker_host, work_dir=work) as containers,
        running(KINDS[oci_kind], containers, hostile_image, work / "job") as name,
    ):
        yield await until(lambda: _specification(name))


def _specification(name: str) -> Account | None:
    """Return the specification as the runtime's own process sees it, in its own mounts."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if name in (process / "cmdline").read_text().split("\0"):
                file = process / "root" / STATE.relative_to("/") / name / "files" / "config.json"
                found: Account = json.loads(file.read_text())
                return found
    return None


@pytest.mark.parametrize("check", SPECIFIED)
async def test_a_container_without_an_engine_passes_the_check(check: str, oci_kind: str, spec: Account) -> None:
    passes = SPECIFIED[check](spec, spec["linux"])
    assert passes is ((oci_kind, _number(check)) not in ACCEPTED), spec


async def test_a_strict_container_without_an_engine_has_no_capabilities(oci_kind: str, spec: Account) -> None:
    if oci_kind == "strict":
        assert not _capabilities(spec)
        assert spec["process"]["user"]["uid"] == 71234
