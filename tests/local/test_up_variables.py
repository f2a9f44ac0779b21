"""The place where commands find a `broadway up`, and its ports."""

import json
import socket
from pathlib import Path

import pytest

from broadway.local.ports import kept_ports
from broadway.local.up_variables import VARIABLE, adopt, keep

SITE = {"BROADWAY_SERVER": "http://127.0.0.1:1", "BROADWAY_OPERATOR_TOKEN": "it's", "DOCKER_HOST": "unix:///x"}
NAMES = ("broker", "store")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / ".broadway" / "up"
    directory.mkdir(parents=True)
    keep(directory, SITE)
    return directory


def test_commands_below_its_directory_find_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.parents[1])
    environment: dict[str, str] = {"HOME": "/"}
    adopt(environment)

    assert environment == {"HOME": "/", **SITE}
    assert (site / "environment").stat().st_mode & 0o777 == 0o600


def test_commands_elsewhere_find_it_by_a_variable(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path.parent)
    environment: dict[str, str] = {}
    adopt(environment)
    assert environment == {}
    adopt(environment := {VARIABLE: str(site), "DOCKER_HOST": "mine"})

    assert environment == {VARIABLE: str(site), **SITE, "DOCKER_HOST": "mine"}


@pytest.mark.parametrize("name", ["BROADWAY_SERVER", "BROADWAY_TOKEN_FILE", "BROADWAY_API_HOST"])
def test_it_is_not_mixed_with_another_deployment(site: Path, name: str) -> None:
    environment = {VARIABLE: str(site), name: "another"}
    adopt(environment)

    assert environment == {VARIABLE: str(site), name: "another"}


def test_a_file_that_others_may_read_is_ignored(site: Path) -> None:
    (site / "environment").chmod(0o644)
    environment = {VARIABLE: str(site)}
    adopt(environment)

    assert environment == {VARIABLE: str(site)}


def test_a_damaged_file_is_ignored(site: Path) -> None:
    (site / "environment").write_text("BROADWAY_SERVER='")
    environment = {VARIABLE: str(site)}
    adopt(environment)

    assert environment == {VARIABLE: str(site)}


def test_ports_stay_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    ports = kept_ports(tmp_path / "up" / "ports.json", NAMES, said.append)

    assert len(set(ports)) == 2
    assert kept_ports(tmp_path / "up" / "ports.json", NAMES, said.append) == ports
    assert said == []


def test_a_port_that_is_in_use_is_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    broker, store = kept_ports(tmp_path / "ports.json", NAMES, said.append)
    with socket.create_server(("127.0.0.1", store)):
        again = kept_ports(tmp_path / "ports.json", NAMES, said.append)

    assert again[0] == broker
    assert again[1] not in (broker, store)
    assert said == [f"Port {store}, which the store had, is in use: it gets another one."]
    assert kept_ports(tmp_path / "ports.json", NAMES, said.append) == again


@pytest.mark.parametrize("text", ["", "[]", '{"broker": "x", "store": 70000}', json.dumps({"broker": True})])
def test_a_damaged_file_of_ports_is_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text(text)
    ports = kept_ports(tmp_path / "ports.json", NAMES, print)

    assert all(1024 < port < 1 << 16 for port in ports)
