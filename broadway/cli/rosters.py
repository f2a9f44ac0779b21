"""Reading rosters that people have made, with the checks that the server makes when it gets one."""

from pathlib import Path

from broadway.cli import terminal
from broadway.domain.json_bodies import InvalidBodyError, parse
from broadway.domain.roster import Roster, UnusableRosterError
from broadway.domain.roster_files import RosterError, read_roster
from broadway.domain.text_files import ENCODINGS, TextFileError, decode, read_text


class RefusedRosterError(ValueError):
    """The server would refuse the roster, or the file cannot be read; the text names the line or the field."""


def checked_roster(file: Path, *, encoding: str) -> Roster:
    """Read a roster from a file, or from standard input if the file is ``-``.

    Raises:
        RefusedRosterError: The file is not a roster that the server would store.
    """
    if encoding not in ENCODINGS:
        raise RefusedRosterError(f"--encoding {encoding}: expected {', '.join(ENCODINGS)}")
    try:
        if str(file) == "-":
            text = decode(terminal.standard_input(), encoding=encoding)
        else:
            text = read_text(file, encoding=encoding)
        roster = read_roster(text, is_json=file.suffix == ".json" or text.lstrip().startswith("{"))
        roster = parse(roster.model_dump_json().encode(), Roster)
        roster.check_entries()
    except (TextFileError, RosterError, InvalidBodyError, UnusableRosterError) as error:
        raise RefusedRosterError(str(error)) from error
    return roster
