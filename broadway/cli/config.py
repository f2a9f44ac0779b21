"""`broadway config show`: the settings of a program, with their sources."""

from collections.abc import Sequence

from broadway.cli import terminal
from broadway.cli.tables import config_table
from broadway.settings.loading import read
from broadway.settings.masking import masked
from broadway.settings.programs import PROGRAMS
from broadway.settings.setting_names import as_text, leaves


def show(arguments: Sequence[str], *, origin: bool, as_json: bool) -> None:
    """Print every setting of the program that the first argument names, or of the API; the rest are its arguments."""
    program, rest = _split(arguments)
    kind = PROGRAMS[program]
    loaded = read(kind, prog=f"python -m broadway.{program}", arguments=rest)
    settings = [
        {"name": leaf.key, "value": masked(loaded.value(leaf))} | ({"origin": loaded.origin(leaf)} if origin else {})
        for leaf in leaves(kind)
    ]
    if as_json:
        terminal.document(settings)
    else:
        config_table([[as_text(part) for part in setting.values()] for setting in settings])


def _split(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    is_named = bool(arguments) and arguments[0] in PROGRAMS
    return (arguments[0], arguments[1:]) if is_named else ("api", arguments)
