"""The systemd units are valid for systemd and confined, and the grader's has the rights that a grader needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deploy.units import PROGRAM, UNITS, Unit, options_of

from broadway.settings.grader import GraderSettings
from broadway.settings.loading import EX_CONFIG, load
from broadway.settings.programs import PROGRAMS

UNIT = UNITS / "broadway-grader@.service"
OCI = UNIT.with_name(f"{UNIT.name}.d") / "oci.conf"
CONTAINERS = Path(__file__).parents[1] / "grader" / "test_oci.py"

# Each of these gives a service a private mount namespace, whose mounts the engine would not see.
HIDES_MOUNTS = (
    *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectKernelTunables"),
    *("ProtectControlGroups", "ProtectKernelModules", "ProtectKernelLogs", "ReadOnlyPaths", "InaccessiblePaths"),
    *(
        "ReadWritePaths",
        "TemporaryFileSystem",
        "BindPaths",
        "RootDirectory",
        "DynamicUser",
        "ProtectProc",
        "MountFlags",
    ),
)


def test_the_capabilities_suffice_for_containers_without_an_engine(tmp_path: Path) -> None:
    rights = [value for unit in (UNIT, OCI) for name, value in options_of(unit) if name == "CapabilityBoundingSet"]
    bounds = ",".join(["-all", *(f"+{right.removeprefix('CAP_').lower()}" for right in " ".join(rights).split())])
    own = (
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "tests"),
        "-k",
        "TestLayers or untrusted or users",
    )
    done = subprocess.run(
        [
            "setpriv",
            f"--bounding-set={bounds}",
            "--no-new-privs",
            sys.executable,
            "-m",
            "pytest",
            *own,
            str(CONTAINERS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:]


INSTANCES = ("broadway-up", "broadway-grader@host7", *(f"broadway@{name}" for name in PROGRAMS if name != "grader"))
MOST_EXPOSED = "20"  # in tenths, by the measure of systemd-analyze, for services that are not root


def written(directory: Path, name: str) -> Path:
    """Write a unit with its drop-ins, and with a program that exists, for systemd-analyze."""
    template, _, instance = name.partition("@")
    source = UNITS / f"{template}{'@' if instance else ''}.service"
    unit = directory / f"{name}.service"
    unit.write_text(source.read_text().replace(PROGRAM, sys.executable))
    if (added := UNITS / f"{name}.service.d").exists():
        shutil.copytree(added, directory / added.name)
    return unit


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", INSTANCES)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    unit = written(tmp_path, name)
    found = analyzed("verify", "--man=no", "--recursive-errors=no", str(unit))

    assert (found.returncode, [line for line in found.stderr.splitlines() if "broadway" in line]) == (0, [])


@pytest.mark.parametrize("name", [name for name in INSTANCES if name.startswith("broadway@")])
def test_services_of_the_control_plane_are_confined(name: str, tmp_path: Path) -> None:
    found = analyzed("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(written(tmp_path, name)))

    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", INSTANCES)
def test_a_unit_says_that_it_is_ready(name: str) -> None:
    unit = Unit.read(name)

    assert unit.values("Type") == ["notify"]
    assert str(EX_CONFIG) in unit.values("RestartPreventExitStatus")[0].split()


@pytest.mark.parametrize("name", [name for name in INSTANCES if "@" in name])
def test_a_host_with_several_instances_can_give_each_its_own_settings(name: str) -> None:
    shared, own = Unit.read(name).values("EnvironmentFile")

    assert own == shared.replace(".env", "-%i.env")


def test_the_environment_is_valid_for_a_grader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_")]:
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("cluster-token\n")
    for name, value in options_of(UNIT):
        if name == "Environment":
            variable, _, text = value.partition("=")
            monkeypatch.setenv(
                variable, text.replace("%d", str(tmp_path)).replace("%i", "h1").replace("%S", "/var/lib")
            )
    settings = load(GraderSettings, prog="grader", arguments=[])

    assert settings.token.get_secret_value() == "cluster-token"
    assert settings.grader_id == "h1"
    assert settings.work_dir == Path("/var/lib/broadway-grader/h1")
    assert ("LoadCredential", "token:/etc/broadway/grader.token") in options_of(UNIT)


def test_a_stop_leaves_time_to_drain_and_a_wrong_setting_is_not_retried() -> None:
    unit = dict(options_of(UNIT))

    assert unit["KillSignal"] == "SIGTERM"
    assert int(unit["TimeoutStopSec"]) >= GraderSettings.model_fields["drain_timeout"].default + 20
    assert str(EX_CONFIG) in unit["RestartPreventExitStatus"].split()


def test_the_engine_sees_the_graders_mounts() -> None:
    assert not {name for name, _ in options_of(UNIT)} & set(HIDES_MOUNTS)
