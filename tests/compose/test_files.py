"""Static checks of the stack's files: they are valid, pinned, limited and confined."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compose.stack import FILES, ROOT
from compose.stand_ins import MONGO, PYTHON, RABBITMQ
from ruamel.yaml import YAML

from broadway import __version__
from broadway.settings.programs import PROGRAMS
from broadway.settings.setting_names import IN_FILE, leaves

BROADWAY = "broadway:0.1.0"

ENVIRONMENT = {
    "COMPOSE_PROJECT_NAME": "broadway",
    "COMPOSE_PROFILES": "graders,cli",
    "BROADWAY_GRADER_ID": "host1",
    "BROADWAY_API_HOST": "http://ingest:1470",
}
ONE_SHOTS = {"replica-set", "topology", "cli"}


def configured(file: str, **without: str) -> subprocess.CompletedProcess[str]:
    command = ["docker-compose", "--file", str(FILES / file), "config"]
    environment = {**os.environ, **ENVIRONMENT, **without}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=FILES)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, as docker-compose resolves them."""
    done = configured("compose.yaml")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load(done.stdout)["services"]
    return found


@pytest.mark.parametrize("file", ["compose.yaml", "graders.yaml"])
def test_a_file_is_valid_under_the_compose_specification(file: str) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILES / file)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_grader_without_a_name_or_an_api_is_refused_with_the_missing_variable() -> None:
    assert configured("graders.yaml").returncode == 0
    for variable in ("BROADWAY_GRADER_ID", "BROADWAY_API_HOST"):
        done = configured("graders.yaml", **{variable: ""})
        assert done.returncode != 0
        assert variable in done.stderr


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    assert {service["image"] for service in services.values()} == {BROADWAY, MONGO, RABBITMQ}
    bases = re.findall(r"^ARG PYTHON=(.*)$", (FILES / "Dockerfile").read_text(), re.MULTILINE)
    assert bases == [PYTHON]
    for image in (BROADWAY, MONGO, RABBITMQ, PYTHON):
        assert re.search(r":\d+\.\d+\.\d+", image)


def test_the_image_has_the_version_of_the_package() -> None:
    assert f"broadway:{__version__}" == BROADWAY
    assert set(re.findall(r"^ARG VERSION=(.*)$", (FILES / "Dockerfile").read_text(), re.MULTILINE)) == {__version__}


def test_the_image_has_the_pinned_versions_and_not_the_embedded_store() -> None:
    pins = re.compile(r"^([a-z0-9-]+==\S+)", re.MULTILINE)
    image, all_of_them = (
        set(pins.findall((ROOT / "requirements" / name).read_text())) for name in ("image.txt", "runtime.txt")
    )
    assert image < all_of_them
    assert not [pin for pin in image if pin.startswith("secantusdb")]


def test_every_permanent_service_has_a_health_check_and_restarts(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name not in ONE_SHOTS:
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped", name


def test_every_service_is_limited(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_only_graders_are_root_or_reach_the_engine(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        sockets = [volume for volume in service.get("volumes", []) if "docker.sock" in str(volume)]
        is_privileged = service.get("user") == "0:0" or "cap_add" in service or "pid" in service or bool(sockets)
        assert is_privileged is name.startswith("grader-"), name
        assert "privileged" not in service


def test_graders_cannot_reach_the_store(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if name.startswith(("grader-", "rabbitmq")):
            assert set(service["networks"]) == {"broker"}, name


def test_secrets_are_passed_in_files(services: dict[str, dict[str, Any]]) -> None:
    secret = {leaf.variable for program in PROGRAMS.values() for leaf in leaves(program) if leaf.is_secret}
    without_a_login = {"BROADWAY_GRADER_AMQP_URL"}
    for name, service in services.items():
        variables = service.get("environment", {})
        assert not secret - without_a_login & variables.keys(), name
        mounted = {Path(each.get("target") or each["source"]).name for each in service.get("secrets", [])}
        for variable, file in variables.items():
            if variable.removesuffix(IN_FILE) in secret and variable.endswith(IN_FILE):
                assert Path(file).name in mounted, (name, variable)


def test_generated_secrets_are_random_readable_in_containers_only_and_permanent(tmp_path: Path) -> None:
    made, others = tmp_path / "made", tmp_path / "others"
    for directory in (made, others, made):
        subprocess.run([FILES / "make-secrets", directory], check=True, capture_output=True)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for path in made.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert (path.read_text() == (others / path.name).read_text()) is (path.name == "courses.json")
    password = (made / "rabbitmq_password").read_text()
    before = (made / "amqp_url").read_text()
    assert password in before
    subprocess.run([FILES / "make-secrets", made], check=True, capture_output=True)
    assert (made / "amqp_url").read_text() == before


def test_every_secret_of_the_stack_is_generated(tmp_path: Path) -> None:
    subprocess.run([FILES / "make-secrets", tmp_path], check=True, capture_output=True)
    named = re.findall(r"file: \"\$\{BROADWAY_SECRETS:-\./secrets\}/([\w.]+)\"", (FILES / "compose.yaml").read_text())
    assert len(named) == 10
    assert set(named) < {path.name for path in tmp_path.iterdir()}
