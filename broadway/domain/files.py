"""Files that students hand in: names that are safe everywhere, and the manifest of a submission. Pure.

The rules hold for each way in: single files, archives and commits. A refusal is a sentence for the student.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

MAX_UPLOAD = 20 * 1024 * 1024  # bytes of a submission, as it is sent
MAX_UNPACKED = 50 * 1024 * 1024  # bytes of its files together
MAX_FILES = 1000
MAX_NAME = 255  # bytes of one name within a path: Linux's limit
MAX_DEPTH = 16  # names of a path
MAX_PATH = 1024  # bytes of a path
PLAIN, PROGRAM = 0o644, 0o755  # the modes of stored files
PART = 1024 * 1024  # bytes of a content that are stored together, and in memory together while a client reads them

_SHOWN = 100  # characters of a name in a refusal
_DRIVE = re.compile(r"[A-Za-z]:")
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # files that desktops leave in directories
_LITTER_DIRECTORY = "__MACOSX"
# Direction marks, and characters without a glyph, make a name look like another one.
_INVISIBLE = frozenset("\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2060\ufeff") | frozenset(
    chr(code) for start, end in ((0x202A, 0x202F), (0x2066, 0x206A)) for code in range(start, end)
)


class FileRefusedError(ValueError):
    """A file, or a set of files, that no submission may have; the text is for the student and names the file."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """The bounds of one submission: bytes as sent, bytes of all files, and the number of files."""

    upload: int = MAX_UPLOAD
    unpacked: int = MAX_UNPACKED
    files: int = MAX_FILES

    def demand_room(self, subject: str, size: int) -> None:
        """Return if files may have ``size`` bytes together.

        Raises:
            FileRefusedError: They may not; the text begins with ``subject``.
        """
        if size > self.unpacked:
            raise FileRefusedError(f"{subject}; a submission may have {self.unpacked} bytes in all")


class Content(Protocol):
    """Bytes that lie somewhere, with their number and their hex SHA-256."""

    @property
    def sha256(self) -> str:
        """The digest, as computed when the bytes arrived."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def read(self, start: int, length: int) -> bytes:
        """Return some of the bytes. Blocks."""


@dataclass(frozen=True, slots=True)
class SubmittedFile:
    """A stored file: its path below the submission's directory, the hex SHA-256 of its content, and its mode."""

    path: str
    sha256: str
    size: int
    mode: int = PLAIN


def shown(name: str) -> str:
    """Return a name for a message, with escapes for all that a terminal or a page could misread."""
    printable = "".join(c if c.isprintable() and _is_plain(c) else _escaped(c) for c in name)
    return printable if len(printable) <= _SHOWN else f"{printable[:_SHOWN]}..."


def clean_path(name: str) -> str:
    """Return the normalized path of a file, with names joined by slashes.

    Raises:
        FileRefusedError: The name is not a relative path of plain names.
    """
    path = unicodedata.normalize("NFC", name)
    if problem := _path_problem(path):
        raise FileRefusedError(f"{shown(name) or 'a file'}: {problem}")
    return path


def demand_inside(path: str) -> str:
    """Return a stored path if it leads to a place inside the submission's directory.

    A path that the API has accepted is not judged again: versions of Python differ in the characters that they know.

    Raises:
        FileRefusedError: It leads to another place, or is empty.
    """
    if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise FileRefusedError(f"{shown(path)}: not a path inside the submission")
    return path


def is_litter(path: str) -> bool:
    """Return whether a file was left by a desktop program rather than written by a student."""
    names = path.split("/")
    return names[-1] in _LITTER or _LITTER_DIRECTORY in names


def without_top(paths: Sequence[str]) -> list[str]:
    """Return paths without the directory that holds all of them, or as they are if there is no such directory."""
    tops = {path.partition("/")[0] for path in paths}
    if len(tops) != 1 or not all("/" in path for path in paths):
        return list(paths)
    return [path.partition("/")[2] for path in paths]


def with_slashes(names: Sequence[str]) -> list[str]:
    """Return the names of an archive, with slashes instead of backslashes if it has no slash: old Windows tools."""
    if any("/" in name for name in names):
        return list(names)
    return [name.replace("\\", "/") for name in names]


@dataclass(slots=True)
class FileTree:
    """The files of a submission while they arrive; each new one is checked against the ones before it."""

    limits: FileLimits
    _paths: dict[str, str] = field(default_factory=dict)  # by their form without case
    _directories: dict[str, str] = field(default_factory=dict)

    def add(self, name: str) -> str:
        """Add a file, and return its clean path.

        Raises:
            FileRefusedError: The name is not usable, stands twice, or is a directory's; or there are too many files.
        """
        path = clean_path(name)
        if len(self._paths) >= self.limits.files:
            raise FileRefusedError(f"{shown(path)}: a submission may have {self.limits.files} files")
        key = path.casefold()
        if other := self._paths.get(key):
            raise FileRefusedError(_twice(path, other))
        if other := self._directories.get(key):
            raise FileRefusedError(f"{shown(path)} is a file and a directory ({shown(other)}/)")
        for parent in parents(path):
            if other := self._paths.get(parent.casefold()):
                raise FileRefusedError(f"{shown(other)} is a file and a directory ({shown(path)})")
            known = self._directories.setdefault(parent.casefold(), parent)
            if known != parent:
                raise FileRefusedError(_twice(f"{parent}/", f"{known}/"))
        self._paths[key] = path
        return path

    def __len__(self) -> int:
        return len(self._paths)


def parents(path: str) -> Iterable[str]:
    """Yield the directories above a path, the outermost first."""
    names = path.split("/")
    return ("/".join(names[:count]) for count in range(1, len(names)))


def _twice(path: str, other: str) -> str:
    if path == other:
        return f"{shown(path)} is there twice"
    return f"{shown(other)} and {shown(path)} differ only in case: some systems take them for one file"


def _path_problem(path: str) -> str | None:
    """Return the reason why a path is refused, to be read after the name."""
    names = path.split("/")
    problems = (
        (not path.strip("/"), "the name is empty"),
        (path.startswith("/") or _DRIVE.match(path), "an absolute path; expected a path inside the submission"),
        ("\\" in path, "a backslash in a name; expected / between names"),
        (not all(map(_is_plain, path)), "the name has control characters, or characters that cannot be seen"),
        (_bytes(path) > MAX_PATH, f"the path is too long: {MAX_PATH} bytes are allowed"),
        (len(names) > MAX_DEPTH, f"more than {MAX_DEPTH} directories deep"),
    )
    found = next((problem for is_wrong, problem in problems if is_wrong), None)
    return found or next(filter(None, map(_name_problem, names)), None)


def _name_problem(name: str) -> str | None:
    if not name:
        return "a name in the path is empty"
    if name in (".", ".."):
        return f"{name} is not a name inside the submission"
    if _bytes(name) > MAX_NAME:
        return f"a name is too long: {MAX_NAME} bytes are allowed"
    return None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _is_plain(character: str) -> bool:
    """Return whether a character has a meaning in a name and no effect on the text around it."""
    return character not in _INVISIBLE and unicodedata.category(character) not in ("Cc", "Cs", "Co", "Cn")
