"""Section 5 of the CIS Docker Benchmark, over every kind of container that Broadway starts, as the engine tells it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from broadway.assignment import Stage
from broadway.grader.profile import container_options
from broadway.grader.stages import Labels, Limits, Mount

Created = dict[str, Any]
Host = dict[str, Any]

KINDS: dict[str, dict[str, Any]] = {
    "standard": {},
    "standard without network": {"networking": False},
    "strict": {"untrusted": True, "read": ["in"], "write": ["out"]},
}


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def created(kind: str, api: docker.APIClient, hostile_image: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The engine's account of a container that was made as a grader makes it."""
    stage = Stage.model_validate({"image": hostile_image, "entrypoint": ["true"], **KINDS[kind]})
    job = tmp_path_factory.mktemp("job")
    targets = ["/job"] if not stage.untrusted else ["/job/in", "/job/out"]
    mounts = [Mount(target, job, read_only=target.endswith("in")) for target in targets]
    options = container_options(stage, Labels("g", "b", "j", "e", 0), limits=Limits(cpus=1), mounts=mounts, hosts=None)
    host_config = api.create_host_config(**options["host_config"])
    made = api.create_container(**{**options, "host_config": host_config})
    yield api.inspect_container(made["Id"])
    api.remove_container(made["Id"], force=True, v=True)


@pytest.fixture
def host(created: Created) -> Host:
    config: Host = created["HostConfig"]
    return config


CHECKS: dict[str, Callable[[Host], bool]] = {
    "5.3 capabilities": lambda h: h["CapDrop"] == ["ALL"] and not set(h["CapAdd"] or []) & DANGEROUS,
    "5.4 not privileged": lambda h: not h["Privileged"],
    "5.5 no sensitive directories": lambda h: all(not _is_sensitive(m["Source"]) for m in h["Mounts"]),
    "5.8 no ports": lambda h: not h["PortBindings"] and not h["PublishAllPorts"],
    "5.9 no network of the host": lambda h: h["NetworkMode"] != "host",
    "5.10 memory": lambda h: 0 < h["Memory"] == h["MemorySwap"],
    "5.11 cpu": lambda h: h["NanoCpus"] > 0,
    "5.14 no restarts": lambda h: h["RestartPolicy"]["Name"] == "no",
    "5.15 no processes of the host": lambda h: h["PidMode"] == "",
    "5.16 no shared memory of the host": lambda h: h["IpcMode"] == "private",
    "5.17 no devices": lambda h: not h["Devices"] and not h["DeviceRequests"],
    "5.18 limits": lambda h: {"core", "fsize", "nofile"} <= {limit["Name"] for limit in h["Ulimits"]},
    "5.19 no shared mounts": lambda h: all(m["BindOptions"]["Propagation"] == "rprivate" for m in h["Mounts"]),
    "5.20 no names of the host": lambda h: h["UTSMode"] == "",
    "5.21 seccomp": lambda h: not any("seccomp" in option for option in h["SecurityOpt"]),
    "5.24 cgroups of its own": lambda h: h["CgroupnsMode"] == "private",
    "5.25 no new privileges": lambda h: any(o.startswith("no-new-privileges") for o in h["SecurityOpt"]),
    "5.28 processes": lambda h: 0 < h["PidsLimit"] <= 512,
    "5.30 no users of the host": lambda h: h["UsernsMode"] != "host",
    "5.31 no socket of the engine": lambda h: not any("docker.sock" in m["Source"] for m in h["Mounts"]),
}
DANGEROUS = {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_MODULE", "SYS_PTRACE", "MKNOD", "DAC_READ_SEARCH", "SYS_CHROOT"}
SENSITIVE = ("/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/var/run", "/run")


def _is_sensitive(source: str) -> bool:
    return source == "/" or any(Path(source).is_relative_to(place) for place in SENSITIVE)


@pytest.mark.parametrize("check", CHECKS)
async def test_a_container_passes(check: str, host: Host) -> None:
    assert CHECKS[check](host), host


async def test_5_7_and_5_26(created: Created) -> None:
    """No program of the image listens where the host could be reached, and none is asked how it feels."""
    assert not created["Config"].get("ExposedPorts")
    assert created["Config"]["Healthcheck"]["Test"] == ["NONE"]


async def test_no_variables_but_the_stages_own(created: Created) -> None:
    names = {entry.partition("=")[0] for entry in created["Config"]["Env"] or []}
    assert names <= {"PATH", "HOME"}


async def test_5_12_root_file_system(kind: str, host: Host) -> None:
    assert host["ReadonlyRootfs"] is (kind == "strict")


async def test_4_1_a_user_that_is_not_root(kind: str, created: Created) -> None:
    assert created["Config"]["User"] == ("65534:65534" if kind == "strict" else "")


async def test_strict_has_no_capabilities_and_no_network(kind: str, created: Created, host: Host) -> None:
    if kind == "strict":
        assert not host["CapAdd"]
        assert created["Config"]["NetworkDisabled"]
