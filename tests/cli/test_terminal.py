"""The output of commands: on terminals of any width, in any encoding, into closed and full files."""

import asyncio
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any

import pytest
import typer
from forks import Process, fork_server
from typer.main import get_command
from typer.testing import CliRunner

from broadway.cli import terminal
from broadway.cli.app import app

ID = "26f5faa9c1d2e3f405162738"
TRICK = "\x1b]52;c;cm0=\x07 line\nother\u202e"
PROGRAM = "import sys; from broadway.cli import terminal\nwith terminal.written():\n    "
ON_A_TERMINAL = "import os; os.dup2(2, 0)\n"  # which forked programs have no input from


@dataclass(frozen=True)
class Output:
    """The exit code and the output of a program."""

    code: int
    stdout: bytes
    stderr: bytes


async def run(body: str, *, out: int | None = None, **environment: str) -> Output:
    """Run a program to its end; its output goes into a file, or to ``out``."""
    with TemporaryFile() as stdout, TemporaryFile() as stderr, ExitStack() as stack:
        written = stdout if out is None else stack.enter_context(os.fdopen(out, "wb", closefd=False))
        code = await (await forked(PROGRAM + body, os.environ | environment, written, stderr)).wait()
        for file in (stdout, stderr):
            file.seek(0)
        return Output(code, stdout.read(), stderr.read())


async def forked(program: str, environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]) -> Process:
    """Start a program that the fork server reads from a file."""
    with NamedTemporaryFile("w", suffix=".py", delete=False) as file:
        file.write(f"__import__('os').unlink(__file__)\n{program}")
    return await fork_server().start(
        (file.name,), environment=environment, directory=Path.cwd(), stdout=stdout, stderr=stderr
    )


async def on_a_terminal(body: str, *, columns: int = 80, typed: str = "", code: int = 0) -> str:
    """Run a program on a terminal of a width where an answer is typed, and return its output."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with os.fdopen(theirs, "wb") as terminal_file:
        process = await forked(ON_A_TERMINAL + PROGRAM + body, environment, terminal_file, terminal_file)
    os.write(ours, typed.encode())
    written = await asyncio.to_thread(lambda: b"".join(iter(lambda: _read(ours), b"")))
    os.close(ours)
    assert await process.wait() == code, written
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the end of the terminal's output
        return b""


@pytest.mark.parametrize("columns", [20, 80, 200])
async def test_ids_are_whole_on_a_terminal_of_any_width(columns: int) -> None:
    row = (ID, "students", "infrastructure_error", "12.3", "1", "grader-with-a-long-name", "why " * 30)
    head = ("job", "phase", "outcome", "seconds", "attempts", "grader", "why")
    shown = await on_a_terminal(f"terminal.table({head!r}, [{row!r}], whole=['job'])", columns=columns)

    assert ID in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    "body",
    [
        f"terminal.line({TRICK!r})",
        f"terminal.message({TRICK!r})",
        f"terminal.notice({TRICK!r})",
        f"terminal.table(['a'], [[{TRICK!r}]])",
        f"terminal.table_row({TRICK!r})",
        f"terminal.fields([({TRICK!r}, {TRICK!r})])",
        f"terminal.show({TRICK!r}, sys.stdout)",
        f"terminal.document({{'a': {TRICK!r}}})",
    ],
)
async def test_no_output_controls_the_terminal(body: str) -> None:
    shown = await on_a_terminal(body, columns=80)

    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "52;c;cm0=" in shown


@pytest.mark.parametrize("columns", [20, 80])
async def test_names_of_wide_characters_are_whole(columns: int) -> None:
    name = "\u5c71\u7530\u592a\u90ce" * 6
    body = f"terminal.table(['student', 'why'], [[{name!r}, 'because ' * 20]], whole=['student'])"

    assert name in await on_a_terminal(body, columns=columns)


async def test_a_table_that_is_piped_has_a_line_for_each_row() -> None:
    done = await run(f"terminal.table(['a', 'b'], [[{TRICK!r}, 'x\\ty']])")

    assert done.stdout.decode().splitlines() == ["a\tb", "\\x1b]52;c;cm0=\\x07 line\\nother\\u202e\tx\\ty"]


async def test_the_output_of_a_job_is_unchanged_where_it_is_piped() -> None:
    assert (await run(f"terminal.show_output({TRICK!r}, '')")).stdout.decode() == TRICK


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict"])
def test_characters_that_the_encoding_lacks_are_escaped(encoding: str) -> None:
    program = f"{PROGRAM}terminal.line('Zoë 日'); terminal.table(['a'], [['日']])"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u65e5" in done.stdout


@pytest.mark.parametrize("body", ["terminal.line('x')", "terminal.document({})", "terminal.table(['a'], [])"])
async def test_a_reader_that_has_gone_ends_the_command_without_words(body: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = await run(body, out=theirs)
    os.close(theirs)

    assert (done.code, done.stderr) == (terminal.CLOSED, b"")


async def test_output_that_is_full_is_reported() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = await run("terminal.line('x')", out=full)
    os.close(full)

    assert done.code == 1
    assert done.stderr.decode().startswith("broadway: the output cannot be written: No space left on device; ")


def test_output_that_is_closed_is_reported() -> None:
    command = f"exec {sys.executable} -m broadway --version >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)

    assert done.returncode == 1
    assert done.stderr.decode().startswith("broadway: the output cannot be written: it is closed; ")


async def test_json_is_ascii() -> None:
    text = {"name": "Zoë\u202e\x9b"}
    shown = (await run(f"terminal.document({text!r})")).stdout

    assert shown.isascii()
    assert json.loads(shown) == text


CANCEL = "__import__('broadway.cli.app').cli.app.app(['run', 'cancel', 'r1', '-c', 'c', '--token', 't', *{rest!r}])"
UNREACHABLE = ["--server", "http://127.0.0.1:9"]  # an order that is carried out ends here


@pytest.mark.parametrize("typed", ["n\n", "\n", "maybe\n"])
async def test_a_destructive_command_asks_on_a_terminal(typed: str) -> None:
    shown = await on_a_terminal(CANCEL.format(rest=UNREACHABLE), typed=typed, code=1)

    assert "Cancel run r1? This cannot be undone. [y/N]" in shown
    assert "nothing is changed" in shown
    assert "no server" not in shown


@pytest.mark.parametrize(("rest", "typed"), [([], "y\n"), ([], "Yes\n"), (["--yes"], "")])
async def test_a_confirmed_command_is_carried_out(rest: list[str], typed: str) -> None:
    shown = await on_a_terminal(CANCEL.format(rest=[*UNREACHABLE, *rest]), typed=typed, code=1)

    assert "no server at http://127.0.0.1:9" in shown


@pytest.mark.parametrize(
    "command",
    [
        ["run", "cancel", "r1", "-c", "c"],
        ["job", "cancel", "j1", "-c", "c"],
        ["hook", "delete", "git", "-c", "c"],
        ["grader", "revoke", "g1"],
        ["dead", "discard", "d1"],
        ["dead", "discard", "--all"],
    ],
)
def test_where_no_person_can_be_asked_a_destructive_command_needs_yes(command: list[str]) -> None:
    access = ["--server", "http://127.0.0.1:9", "--token", "t"]
    refused, sent = (CliRunner().invoke(app, [*command, *access, *more]) for more in ([], ["--yes"]))

    assert (refused.exit_code, "say --yes" in refused.stderr) == (2, True)
    assert (sent.exit_code, "no server at http://127.0.0.1:9" in sent.stderr) == (1, True)


def test_only_one_module_writes_to_terminals() -> None:
    package = Path(terminal.__file__).parent
    writing = re.compile(r"\bprint\(|\bsys\.(__)?std(out|err|in)\b|\becho\(|\brich\b|\.secho\(|\binput\(|getpass")
    found = [
        f"{file.name}:{number}: {line.strip()}"
        for file in sorted(package.glob("*.py"))
        if file.name != "terminal.py"
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if writing.search(line)
    ]

    assert found == [], "use broadway.cli.terminal, which escapes the texts of others"


LOGGING = """
import structlog
from broadway.service import configure_logging
from broadway.settings.sections import LogSettings
configure_logging(LogSettings(dir=""), service="x")
log = structlog.get_logger("x")
log.warning("job\\x1b]0;a\\x07", reason="r\\x1b]0;b\\x07")
try:
    raise ValueError("e\\x1b]0;c\\x07")
except ValueError:
    log.exception("failed")
__import__("logging").getLogger("library").warning("%s", "l\\x1b]0;d\\x07")
"""


async def test_log_lines_on_a_terminal_show_control_characters() -> None:
    shown = await on_a_terminal(f"exec({LOGGING!r})")

    assert "\x1b]" not in shown
    for each in "abcd":
        assert f"\\x1b]0;{each}\\x07" in shown


def options(command: Any, path: str = "broadway") -> Iterator[tuple[str, Any]]:
    """Yield every option of a command and of the commands below it."""
    for parameter in command.params:
        yield f"{path} {parameter.opts[0]}", parameter
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, f"{path} {name}")


def test_every_token_of_a_command_is_checked_when_it_is_read() -> None:
    found = {name: option for name, option in options(get_command(app)) if name.endswith(("token", "-url"))}

    assert {"broadway run show --token", "broadway grader list --token", "broadway up --token"} <= found.keys()
    for name, option in found.items():
        with pytest.raises(typer.BadParameter) as refused:
            option.process_value(typer.Context(get_command(app)), "hush-hush\r")
        assert "carriage return" in str(refused.value), f"{name}: give it the callback `header_secret`"
        assert "hush" not in str(refused.value)


def test_the_help_names_arguments_in_capitals_and_explains_them() -> None:
    arguments = {
        name: each for name, each in options(get_command(app)) if each.param_type_name == "argument" and not each.hidden
    }

    assert "broadway student export student" in arguments
    plain = [name for name, each in arguments.items() if not each.metavar or each.metavar != each.metavar.upper()]
    assert not plain, "give them a metavar in capitals"
    assert not [name for name, each in arguments.items() if each.metavar.endswith("...")], "typer adds the dots"
    assert not [name for name, each in arguments.items() if not each.help]


@pytest.mark.parametrize("path", sorted(Path(terminal.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_one_module_alone_writes_to_terminals(path: Path) -> None:
    written = re.findall(
        r"(?<![\w.])print\(|\becho\(|secho\(|\bstdout\b(?=\.write)|sys\.std(?:out|err)|\bConsole\(", path.read_text()
    )
    assert bool(written) is (path.name == "terminal.py"), written


async def test_an_address_in_a_field_stays_whole_on_a_narrow_terminal() -> None:
    link = f"http://127.0.0.1:1470/s/bwl_{'x' * 43}"
    done = await run(f"terminal.fields([('API', 'a ' * 50), ('Sign in', {link!r})])", COLUMNS="60")
    lines = done.stdout.decode().splitlines()
    assert lines[-1] == f"Sign in  {link}"
    assert max(map(len, lines[:-1])) <= 60
