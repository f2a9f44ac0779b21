"""The output of commands. Only this module writes to stdout and stderr, so no text of others reaches a terminal as is.

Lines and cells are always escaped. A document (the output of a job, JSON) is data: it is escaped only on a terminal.
Data goes to stdout, messages and questions to stderr.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from getpass import getpass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TextIO

from broadway.runtime.visible import visible, visible_line

if TYPE_CHECKING:
    from rich.console import Console

CLOSED = 141  # the exit code of a program whose reader has gone: 128 and SIGPIPE
UNWRITABLE = 1
_GAP = 1  # columns between two columns of a table
_NARROWEST = 6  # columns that a column without ids keeps on a narrow terminal


def line(text: str) -> None:
    """Print a line of data."""
    _write(_out(), visible_line(text) + "\n")


def table_row(*cells: str) -> None:
    """Print the cells of a row as soon as they are known, separated by tabs."""
    _write(_out(), "\t".join(map(visible_line, cells)) + "\n")


def message(text: str) -> None:
    """Print a message on stderr, as one line: names in it cannot look like messages of their own."""
    _write(sys.stderr, visible_line(text) + "\n")


def indented(text: str) -> None:
    """Print a message of several lines on stderr; those after the first one are indented, as parts of it."""
    _write(sys.stderr, visible(text).replace("\n", "\n  ") + "\n")


def paragraph(text: str) -> None:
    """Print a text of several lines on stderr."""
    _write(sys.stderr, visible(text) + "\n")


def show(text: str, stream: TextIO | None) -> None:
    """Write the output of a job: as it is, or with escapes on a terminal."""
    if stream is None:
        return
    _write(stream, visible(text) if stream.isatty() else text)


def show_output(stdout: str, stderr: str) -> None:
    """Write both streams of a job to those of this command."""
    show(stdout, _out())
    show(stderr, sys.stderr)


def data(content: bytes) -> None:
    """Write the bytes of a file to stdout, which must not be a terminal."""
    stream = _out()
    try:
        stream.flush()
        stream.buffer.write(content)
        stream.buffer.flush()
    except BrokenPipeError:
        raise _ReaderGoneError from None
    except OSError as error:
        raise _UnwritableError(error.strerror or str(error)) from error


def takes_data() -> bool:
    """Return whether stdout is a file or a pipe, which takes bytes of any kind."""
    return not is_terminal(sys.stdout)


def document(value: Any) -> None:
    """Print JSON, in ASCII: every other character is an escape of JSON's own."""
    _write(_out(), json.dumps(value, indent=2, default=str) + "\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Sequence[str] = ()) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere.

    ``whole`` names the columns of ids, which the next command needs: they are neither cut nor wrapped.
    """
    cells = [[visible_line(cell) for cell in row] for row in rows]
    if not is_terminal(sys.stdout):
        _write(_out(), "".join("\t".join(row) + "\n" for row in (head, *cells)))
        return
    from rich.cells import cell_len  # noqa: PLC0415 - --help must not wait for it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    columns = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    widths = [max(map(cell_len, (name, *(row[index] for row in cells)))) for index, name in enumerate(head)]
    for name, width in zip(head, widths, strict=True):
        is_whole = name in whole
        columns.add_column(name, no_wrap=is_whole, min_width=width if is_whole else None, overflow="fold")
    for row in cells:
        columns.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    # On a terminal that is narrower than the ids, lines are longer than the terminal, which wraps them whole.
    needed = sum(
        _GAP + (width if name in whole else min(width, _NARROWEST)) for name, width in zip(head, widths, strict=True)
    )
    console.width = max(console.width, needed)
    _write(_out(), _render(console, columns))


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values for a reader, without a head; no word, such as an address, is cut or broken."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(markup=False, emoji=False, highlight=False)
    shown = [(visible_line(name), visible_line(value)) for name, value in pairs]
    indent = max((len(name) for name, _ in shown), default=0) + 2
    grid = Text()
    for name, value in shown:
        lines = wrap(value, max(1, console.width - indent), break_long_words=False, break_on_hyphens=False)
        grid.append(name.ljust(indent), style="bold")
        grid.append(f"\n{' ' * indent}".join(lines) + "\n")
    grid.right_crop(1)
    _write(_out(), _render(console, grid, soft_wrap=True))


def notice(text: str) -> None:
    """Print a message that stands out on a terminal."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    _write(sys.stderr, _render(console, visible(text), style="yellow", soft_wrap=True))


def can_ask() -> bool:
    """Return whether a person sees a question and can answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def ask(question: str) -> bool:
    """Ask a question that is answered with y or n; any other answer means no."""
    _write(sys.stderr, f"{visible_line(question)} [y/N] ")
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def ask_secret(question: str) -> str:
    """Return a text that a person types, which the terminal does not show."""
    return getpass(visible_line(question), stream=sys.stderr)


def standard_input() -> bytes:
    """Return all that arrives on standard input."""
    return sys.stdin.buffer.read() if sys.stdin else b""


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Run a command whose output may be in any encoding, and may be closed or full.

    Characters that the encoding lacks become escapes. A reader that has gone ends the command with ``CLOSED`` and no
    words; output that cannot be written for another reason ends it with a sentence.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # it has been exchanged for a stream of another kind
                stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except _ReaderGoneError:
        _discard_output()
        raise SystemExit(CLOSED) from None
    except _UnwritableError as error:
        _discard_output()
        with contextlib.suppress(_ReaderGoneError, _UnwritableError):
            message(f"broadway: the output cannot be written: {error}; send it to another file or pipe")
        raise SystemExit(UNWRITABLE) from None


class _ReaderGoneError(Exception):
    """The program that read the output has ended."""


class _UnwritableError(Exception):
    """Stdout or stderr takes no output, for another reason than a reader that has gone."""


def _out() -> TextIO:
    if sys.stdout is None:
        raise _UnwritableError("it is closed")
    return sys.stdout


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # stderr is closed: the exit code has to do
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise _ReaderGoneError from None
    except OSError as error:
        raise _UnwritableError(error.strerror or str(error)) from error


def _render(console: "Console", what: Any, **style: Any) -> str:
    with console.capture() as captured:
        console.print(what, **style)
    return captured.get()


def _discard_output() -> None:
    """Let the interpreter's last flush of stdout succeed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
