"""The wheel has all its files, and each extra suffices for its commands; a missing extra is named."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from deploy.units import clean
from deploy.wheels import build, data_files, environment

from broadway import __version__
from broadway.cli.services import SERVICES
from broadway.installation import NAME, advice
from broadway.settings.loading import EX_CONFIG

EXTRAS = ("client", "grader", "server")
# A command of each part, with the extra that it needs, and its status where the extra is installed.
COMMANDS = {
    ("run", "list", "--server", "http://127.0.0.1:1", "-c", "cs101", "--token", "t"): ("client", 1),
    ("grader",): ("grader", 2),
    **{(name, "--nope"): ("server", 2) for name in SERVICES if name != "grader"},
}

PARTS = SERVICES.keys() - {"api", "grader"}  # of the control plane: `api` imports them all, test_units.py starts each


def each_command() -> list[ParameterSet]:
    """Return the commands; those of the control plane's single parts run in `make faults`."""
    marks = {command: [pytest.mark.long] if command[0] in PARTS else [] for command in COMMANDS}
    return [pytest.param(command, id=" ".join(command), marks=marks[command]) for command in COMMANDS]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program `broadway` of an environment for each extra, and of one without extras."""
    homes = tmp_path_factory.mktemp("environments")
    made = {extra: environment(homes / extra, wheel, extra) / "broadway" for extra in EXTRAS}
    return made | {"": environment(homes / "plain", wheel) / "broadway"}


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], env=clean({}), capture_output=True, text=True, check=False)


def test_the_wheel_has_templates_and_static_files_and_nothing_else_of_the_repository(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert wheel.name == f"broadway_grading-{__version__}-py3-none-any.whl"
    assert {Path(name).suffix for name in data_files()} >= {".html", ".css", ".js"}
    assert data_files() <= names
    assert {name.partition("/")[0] for name in names} == {"broadway", f"broadway_grading-{__version__}.dist-info"}


def test_the_version_and_the_help_need_no_extra(programs: dict[str, Path]) -> None:
    assert run(programs[""], "--version").stdout.strip() == __version__
    assert "Run a grader on this host" in run(programs[""], "grader", "--help").stdout


@pytest.mark.parametrize("command", each_command())
def test_a_command_without_its_extra_names_it(programs: dict[str, Path], wheel: Path, command: tuple[str, ...]) -> None:
    extra, status = COMMANDS[command]
    without, complete = run(programs[""], *command), run(programs[extra], *command)

    assert (without.returncode, without.stdout) == (EX_CONFIG, "")
    assert without.stderr.count("\n") == 1
    assert f"the extra '{extra}' brings" in without.stderr
    assert f"-m pip install '{NAME}[{extra}] @ {wheel.as_uri()}'" in without.stderr
    assert complete.returncode == status
    assert "extra" not in complete.stderr


@pytest.mark.parametrize(
    ("mark", "command"),
    [("uv-receipt.toml", "uv tool install --force"), ("pipx_metadata.json", "pipx install --force")],
)
def test_the_advice_is_for_the_tool_that_made_the_environment_and_keeps_its_extras(
    mark: str, command: str, programs: dict[str, Path], wheel: Path
) -> None:
    home = programs["grader"].parents[1]
    (home / mark).touch()
    program = "from broadway.installation import advice; print(advice('server'), advice('otel'), sep=chr(10))"
    given = run(home / "bin" / "python", "-c", program)
    (home / mark).unlink()

    wanted = [f"{command} '{NAME}[{extras}] @ {wheel.as_uri()}'" for extras in ("grader,server", "grader,otel")]
    assert given.stdout.splitlines() == wanted, given.stderr


def test_in_a_checkout_the_advice_is_its_script() -> None:
    assert [advice(extra) for extra in ("grader", "local")] == ["scripts/bootstrap grader", "scripts/bootstrap run"]
