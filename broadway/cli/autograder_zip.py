"""Gradescope's ``autograder.zip``, read and written as the context of an image's build."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from broadway.domain.files import FileLimits, FileRefusedError, FileTree, is_litter, shown, with_slashes, without_top

RUN, SETUP = "run_autograder", "setup.sh"
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
USER 0:0
COPY source /autograder/source
COPY run_autograder /autograder/run_autograder
WORKDIR /autograder
ENTRYPOINT ["/autograder/run_autograder"]
CMD []
"""

_LIMITS = FileLimits(unpacked=4 * 1024**3, files=50_000)
_PLAIN, _PROGRAM = 0o644, 0o755
_CRLF, _LF = b"\r\n", b"\n"
_MAX_SCRIPT = 16 * 1024 * 1024  # bytes


class AutograderRefusedError(ValueError):
    """The file is no autograder of Gradescope's; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the archive, and its path in the source."""

    entry: zipfile.ZipInfo
    path: str

    @property
    def mode(self) -> int:
        mode = self.entry.external_attr >> 16
        return _PROGRAM if mode & 0o111 or self.path in (RUN, SETUP) else _PLAIN


def write_context(archive: Path, target: IO[bytes]) -> str:
    """Write an autograder's files and the Dockerfile as a tar archive; return the directory that was left out, or "".

    Both scripts get Unix's line ends and become executable, as in Gradescope's own build.

    Raises:
        AutograderRefusedError: It is no archive, or not an autograder's.
        OSError: It cannot be read, or the context cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            files, top = _files(opened)
            with tarfile.open(fileobj=target, mode="w") as context:
                _add(context, "Dockerfile", DOCKERFILE.encode(), _PLAIN)
                _copy(opened, files, context)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise AutograderRefusedError(f"not a zip archive that can be read: {error}") from error
    return top


def _files(opened: zipfile.ZipFile) -> tuple[list[_File], str]:
    """Return the files, and the directory that holds all of them, which is left out, or ""."""
    entries = list(_regular(opened.infolist()))
    names = with_slashes([entry.filename for entry in entries])
    kept = [(entry, name) for entry, name in zip(entries, names, strict=True) if not is_litter(name)]
    tree = FileTree(_LIMITS)
    try:
        paths = [tree.add(name) for _, name in kept]
    except FileRefusedError as error:
        raise AutograderRefusedError(str(error)) from error
    top = ""
    if RUN not in paths and RUN in (inner := without_top(paths)):
        top, paths = paths[0].partition("/")[0], inner
    files = [_File(entry, path) for (entry, _), path in zip(kept, paths, strict=True)]
    if missing := next((name for name in (RUN, SETUP) if name not in paths), None):
        raise AutograderRefusedError(f"{missing} is missing: it should be at the top of the archive")
    return files, top


def _regular(entries: Iterable[zipfile.ZipInfo]) -> Iterator[zipfile.ZipInfo]:
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise AutograderRefusedError(f"{shown(entry.filename)}: is a link or a device, not a file")
        if not entry.is_dir():
            yield entry


def _copy(opened: zipfile.ZipFile, files: Iterable[_File], context: tarfile.TarFile) -> None:
    left = _LIMITS.unpacked
    for file in files:
        if file.entry.file_size > left:
            raise AutograderRefusedError(f"its files have more than {_LIMITS.unpacked} bytes together")
        left -= file.entry.file_size
        if file.path in (RUN, SETUP):
            script = _script(opened, file)
            _add(context, f"source/{file.path}", script, file.mode)
            if file.path == RUN:
                _add(context, RUN, script, file.mode)
            continue
        described = tarfile.TarInfo(f"source/{file.path}")
        described.size, described.mode = file.entry.file_size, file.mode
        with opened.open(file.entry) as content:
            context.addfile(described, content)


def _script(opened: zipfile.ZipFile, file: _File) -> bytes:
    if file.entry.file_size > _MAX_SCRIPT:
        raise AutograderRefusedError(f"{file.path}: has more than {_MAX_SCRIPT} bytes")
    return opened.read(file.entry).replace(_CRLF, _LF)


def _add(context: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    described = tarfile.TarInfo(name)
    described.size, described.mode = len(content), mode
    context.addfile(described, io.BytesIO(content))
