"""The features of a Docker Engine, read from its info, and their consequences for stages."""

import json
from pathlib import Path
from typing import Any

import pytest

from broadway.grader.sandbox.engine_features import EngineFeatures
from broadway.grader.sandbox.seccomp import NAMESPACES, RULES, STRICT_RULES, VSOCK, engine_profile

INFO: dict[str, Any] = {
    "Architecture": "x86_64",
    "DefaultRuntime": "runc",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "xfs"], ["Supports d_type", "true"]],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def mounts(data: Path, tmp_path: Path) -> Path:
    """The mounts of a host with the data on a separate disk with quotas."""
    file = tmp_path / "mountinfo"
    file.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        f"40 22 8:1 / {data} rw,relatime shared:9 - xfs /dev/sda1 rw,attr2,inode64,prjquota\n"
        f"41 40 8:2 / {data}/volumes rw - ext4 /dev/sdb rw\n"
    )
    return file


def of(info: dict[str, Any], mounts: Path, *, runtime: str | None = None, is_local: bool = True) -> EngineFeatures:
    return EngineFeatures.of(info, runtime=runtime, is_local=is_local, mounts=mounts)


def test_an_engine_without_info_has_no_features(mounts: Path) -> None:
    assert of({}, mounts) == EngineFeatures()


def test_the_data_directory_is_known_only_if_it_is_on_this_host(data: Path, mounts: Path) -> None:
    info = INFO | {"DockerRootDir": str(data)}
    assert of(info, mounts).data == data
    assert of(info, mounts, is_local=False).data is None
    assert of(INFO | {"DockerRootDir": f"{data}/gone"}, mounts).data is None


def test_the_architecture_is_read_and_emulators_only_on_this_host(mounts: Path) -> None:
    here, there = of(INFO, mounts), of(INFO, mounts, is_local=False)
    assert (here.architecture, there.architecture) == ("amd64", "amd64")
    assert here.emulators is not None
    assert there.emulators is None


def test_the_number_of_cpus_is_read(mounts: Path) -> None:
    assert of(INFO | {"NCPU": 16}, mounts).cpus == 16


@pytest.mark.parametrize(
    ("changes", "runtime", "is_ours"),
    [
        ({}, None, True),
        ({}, "runc", True),
        ({}, "runsc", False),
        ({"DefaultRuntime": "runsc"}, None, False),
        ({"DefaultRuntime": "runsc"}, "runc", True),
        ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, None, True),
        ({"SecurityOptions": ["name=seccomp,profile=/etc/docker/strict.json"]}, None, False),
        ({"SecurityOptions": ["name=apparmor"]}, None, False),
        ({"SecurityOptions": None}, None, False),
        ({"Architecture": "aarch64"}, None, True),
        ({"Architecture": "riscv64"}, None, False),
    ],
)
def test_untrusted_stages_get_our_filter_where_it_works(
    mounts: Path, changes: dict[str, Any], runtime: str | None, is_ours: bool
) -> None:
    assert (of(INFO | changes, mounts, runtime=runtime).seccomp == engine_profile()) is is_ours


@pytest.mark.parametrize(
    ("changes", "has_quotas"),
    [
        ({}, True),
        ({"DriverStatus": [["Backing Filesystem", "extfs"]]}, False),
        ({"Driver": "btrfs", "DriverStatus": None}, True),
        ({"Driver": "zfs"}, True),
        ({"Driver": "vfs"}, False),
    ],
)
def test_quotas_depend_on_the_storage_driver(
    mounts: Path, data: Path, changes: dict[str, Any], has_quotas: bool
) -> None:
    assert of(INFO | {"DockerRootDir": str(data)} | changes, mounts).has_quotas is has_quotas


def test_xfs_without_the_option_has_no_quotas(mounts: Path, data: Path) -> None:
    mounts.write_text(mounts.read_text().replace("prjquota", "noquota"))
    assert not of(INFO | {"DockerRootDir": str(data)}, mounts).has_quotas
    assert not of(INFO | {"DockerRootDir": str(data)}, mounts, is_local=False).has_quotas


def test_the_strict_filter_has_one_architecture_for_each_machine_unless_the_operator_allows_two() -> None:
    strict, wider = (json.loads(engine_profile(allow_32_bit=allowed))["archMap"] for allowed in (False, True))

    assert [each["subArchitectures"] for each in strict] == [[], []]
    assert [each["subArchitectures"] for each in wider] == [["SCMP_ARCH_X86"], ["SCMP_ARCH_ARM"]]


def test_the_strict_filter_differs_by_asynchronous_io_and_the_32_bit_sockets_that_it_cannot_tell_apart() -> None:
    allowed, strict = ({rule.name for rule in rules if not rule.error} for rules in (RULES, STRICT_RULES))

    assert strict < allowed
    assert {name for name in allowed - strict if not name.startswith("io_")} == {"socketcall"}
    assert "io_setup" in allowed - strict


def test_an_engines_filter_has_every_rule() -> None:
    profile = json.loads(engine_profile(RULES, allow_32_bit=True))

    entries = [(name, each) for each in profile["syscalls"] for name in each["names"]]
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert sorted(name for name, _ in entries) == sorted(rule.name for rule in RULES)
    by_name = dict(entries)
    assert by_name["read"] == {"names": by_name["read"]["names"], "action": "SCMP_ACT_ALLOW"}
    assert (by_name["clone3"]["action"], by_name["clone3"]["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert by_name["clone"]["args"] == [{"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    assert by_name["socket"]["args"] == [{"index": 0, "value": VSOCK, "valueTwo": 0, "op": "SCMP_CMP_NE"}]
    assert {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]} in profile["archMap"]
