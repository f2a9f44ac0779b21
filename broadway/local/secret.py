"""Small values in files: passwords, tokens, names."""

import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe


def kept(path: Path, new: Callable[[], str] = token_urlsafe) -> str:
    """Return the text in `path`. If the file is missing, first write the result of `new` to it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    value = new()
    write(path, value)
    return value


def private(directory: Path) -> None:
    """Create a directory, or change one, so that only its owner can look into it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)


def write(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, with mode 0600."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
