"""The output of commands: on terminals of any width, in any encoding, into closed and full files."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from typer.main import get_command

from broadway.cli import terminal
from broadway.cli.app import app

ID = "26f5faa9c1d2e3f405162738"
TRICK = "\x1b]52;c;cm0=\x07 line\nother\u202e"
PROGRAM = "import sys; from broadway.cli import terminal\nwith terminal.written():\n    "


def run(body: str, *, encoding: str = "utf-8", out: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + body],
        stdout=out,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )


def on_a_terminal(body: str, *, columns: int = 80, typed: str = "", code: int = 0) -> str:
    """Run a program on a terminal of a width where an answer is typed, and return its output."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + body], stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    assert process.returncode == code, written
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the end of the terminal's output
        return b""


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_ids_are_whole_on_a_terminal_of_any_width(columns: int) -> None:
    row = (ID, "students", "infrastructure_error", "12.3", "1", "grader-with-a-long-name", "why " * 30)
    head = ("job", "phase", "outcome", "seconds", "attempts", "grader", "why")
    shown = on_a_terminal(f"terminal.table({head!r}, [{row!r}], whole=['job'])", columns=columns)

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
def test_no_output_controls_the_terminal(body: str) -> None:
    shown = on_a_terminal(body, columns=80)

    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "52;c;cm0=" in shown


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


def test_an_address_in_a_field_stays_whole_on_a_narrow_terminal() -> None:
    link = f"http://127.0.0.1:1470/s/bwl_{'x' * 43}"
    script = f"from broadway.cli import terminal; terminal.fields([('API', 'a ' * 50), ('Sign in', {link!r})])"
    command, narrow = [sys.executable, "-c", script], {**os.environ, "COLUMNS": "60"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=narrow)
    lines = done.stdout.splitlines()
    assert lines[-1] == f"Sign in  {link}"
    assert max(map(len, lines[:-1])) <= 60
