"""Small values that a directory keeps: passwords, tokens, names."""

import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe


def kept(path: Path, new: Callable[[], str] = token_urlsafe) -> str:
    """Return the text in `path`; the first time, write what `new` makes, readable by its owner only."""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    value = new()
    write(path, value)
    return value


def write(path: Path, text: str) -> None:
    """Put `text` into `path` in one step, with mode 0600."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
