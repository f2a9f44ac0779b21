"""The services as commands."""

import sys

import pytest
from typer.testing import CliRunner

from broadway.cli.app import app
from broadway.cli.services import SERVICES
from broadway.settings.programs import PROGRAMS


def test_every_program_is_a_command() -> None:
    assert SERVICES.keys() == PROGRAMS.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_reads_its_own_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["broadway"])
    arguments = [name, *(["start"] if name == "grader" else []), "--help"]
    shown = CliRunner().invoke(app, arguments)

    assert (shown.exit_code, shown.output.split()[:3]) == (0, ["usage:", "broadway", name])
    assert "--metrics-port" in shown.output


@pytest.mark.parametrize("arguments", [["--slots", "none"], ["start", "--slots", "none"]], ids=" ".join)
def test_a_grader_is_started_without_a_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["broadway"])
    started = CliRunner().invoke(app, ["grader", *arguments])

    assert started.exit_code == 2
    assert "broadway grader: error: --slots" in started.output


def test_the_commands_on_graders_stay() -> None:
    shown = CliRunner().invoke(app, ["grader", "-h"])

    assert shown.exit_code == 0
    assert "set-slots" in shown.output
