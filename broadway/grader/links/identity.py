"""The secret of this grader's own, which proves that a later process is the same grader."""

import os
from pathlib import Path
from secrets import token_hex

from broadway.domain.access import SecretPrefix, is_secret, new_secret
from broadway.service import StartError


def own_secret(work_dir: Path, grader_id: str) -> str:
    """Return the grader's secret from ``<work_dir>/<grader_id>.secret``; first make it if the file is missing.

    The file is durable, and only its owner can read it, before this returns: the API stores no more than a hash.

    Raises:
        StartError: The file cannot be read or written, or has another content.
    """
    path = work_dir.absolute() / f"{grader_id}.secret"
    try:
        secret = path.read_text() if path.exists() else _make(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise StartError(
            f"the grader's secret, {path}: {reason}; is --work-dir right, and its user allowed?"
        ) from error
    if not is_secret(secret, SecretPrefix.GRADER):
        raise StartError(
            f"{path} is not a grader's secret: restore it, or remove it and let an operator "
            f"`broadway grader forget-secret {grader_id}`"
        )
    return secret


def _make(path: Path) -> str:
    """Write a new secret; a file that another process writes at the same moment wins if it is first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(new_secret(SecretPrefix.GRADER))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return path.read_text()
