"""The systemd unit of graders is valid, for systemd and for the grader."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from broadway.settings.loading import EX_CONFIG, load
from broadway.settings.programs import GraderSettings

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "broadway-grader@.service"
OCI = UNIT.with_name(f"{UNIT.name}.d") / "oci.conf"
CONTAINERS = Path(__file__).parents[1] / "grader" / "test_oci.py"
PYTHON = "/opt/broadway/bin/python"

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


def options(unit: Path = UNIT) -> list[tuple[str, str]]:
    lines = (line.partition("=") for line in unit.read_text().splitlines() if line and line[0] not in "#[")
    return [(name, value) for name, _, value in lines]


def test_the_capabilities_suffice_for_containers_without_an_engine(tmp_path: Path) -> None:
    rights = [value for unit in (UNIT, OCI) for name, value in options(unit) if name == "CapabilityBoundingSet"]
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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze, of the package systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PYTHON, sys.executable))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, [line for line in found.stderr.splitlines() if "broadway-grader" in line]) == (0, [])


def test_the_environment_is_valid_for_a_grader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_")]:
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("cluster-token\n")
    for name, value in options():
        if name == "Environment":
            variable, _, text = value.partition("=")
            monkeypatch.setenv(
                variable, text.replace("%d", str(tmp_path)).replace("%i", "h1").replace("%S", "/var/lib")
            )
    settings = load(GraderSettings, prog="grader", arguments=[])

    assert settings.token.get_secret_value() == "cluster-token"
    assert settings.grader_id == "h1"
    assert settings.work_dir == Path("/var/lib/broadway-grader/h1")
    assert ("LoadCredential", "token:/etc/broadway/grader.token") in options()


def test_a_stop_leaves_time_to_drain_and_a_wrong_setting_is_not_retried() -> None:
    unit = dict(options())

    assert unit["KillSignal"] == "SIGTERM"
    assert int(unit["TimeoutStopSec"]) >= GraderSettings.model_fields["drain_timeout"].default + 20
    assert str(EX_CONFIG) in unit["RestartPreventExitStatus"].split()


def test_the_engine_sees_the_graders_mounts() -> None:
    assert not {name for name, _ in options()} & set(HIDES_MOUNTS)
