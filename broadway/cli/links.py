"""Files of personal links, which only their owner can read."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from broadway.cli import terminal
from broadway.cli.common import fail
from broadway.domain.formulas import defused
from broadway.local.secret import write

COLUMNS = ("student", "link", "expires_at")


def write_links(links: Sequence[Mapping[str, str]], output: Path) -> None:
    """Write links as CSV, to a file or to standard output if it is ``-``."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**link, "student": defused(str(link["student"]))} for link in links)
    if str(output) == "-":
        terminal.line(text.getvalue().removesuffix("\n"))
        return
    try:
        write(output, text.getvalue())
    except OSError as error:
        raise fail(f"{output}: {error.strerror or error}") from error
    terminal.message(f"{len(links)} links in {output}; each signs its student in, and is not shown again")
