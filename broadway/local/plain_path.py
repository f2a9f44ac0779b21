"""Paths for programs whose shell scripts split paths at blanks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from broadway.local.processes import LocalError

_PLAIN = re.compile(r"[\w./@%+=:,-]+", re.ASCII)


@contextmanager
def plain_path(directory: Path) -> Iterator[Path]:
    """Yield a path of a directory without blanks and other special characters: its own, or that of a link to it.

    Raises:
        LocalError: The directory for temporary files has such a path, too.
    """
    if _PLAIN.fullmatch(str(directory)):
        yield directory
        return
    with TemporaryDirectory(prefix="broadway-") as above:
        if not _PLAIN.fullmatch(above):
            raise LocalError(f"{directory}: RabbitMQ runs below no directory with a blank in its name; set TMPDIR, too")
        link = Path(above) / "here"
        link.symlink_to(directory, target_is_directory=True)
        yield link
