"""A container's root file system, made from the running Python: for machines without access to a registry."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# Parts of the standard library that no exercise needs.
LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"}
)
LEFT_OUT_PREFIXES = ("config-", "_test", "_tkinter")
LEFT_OUT_SUFFIXES = (".a", ".opt-1.pyc", ".opt-2.pyc")
_LIBRARY = re.compile(r"(/\S+) \(0x")
_ETC = {"passwd": "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n", "group": "root:x:0:\nnogroup:x:65534:\n"}


def interpreter() -> Path:
    """Return the executable of the running Python, outside any virtual environment."""
    return Path(sys.executable).resolve()


def digest() -> str:
    """Return a name for the content that ``write`` writes on this machine."""
    return hashlib.sha256(bytes(interpreter()) + Path(__file__).read_bytes()).hexdigest()[:12]


def write(target: io.BufferedIOBase, *, shells: bool = False) -> None:
    """Write a tar archive: the interpreter, its standard library, and the shared libraries that both need.

    With ``shells`` it also has bash and busybox's programs, which scripts of autograders need.
    """
    with tarfile.open(fileobj=target, mode="w") as archive:
        programs = [_program("bash"), _program("busybox")] if shells else []
        for path in sorted({*_files(), *programs, *_libraries(programs)}):
            _add(archive, path)
        for name in _applets() if shells else ():
            _link(archive, f"bin/{name}", str(_program("bash" if name == "bash" else "busybox")))
        if shells:
            _link(archive, "usr/bin/env", "/bin/env")
        _link(archive, "usr/bin/python3", str(interpreter()))
        for name, text in _ETC.items():
            entry = tarfile.TarInfo(f"etc/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        for name, mode in (("tmp", 0o1777), ("job", 0o777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)


def _program(name: str) -> Path:
    """Return a program of this machine.

    Raises:
        FileNotFoundError: It is not installed; `scripts/bootstrap` installs it.
    """
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed, which scripts/bootstrap installs")
    return Path(found)


def _applets() -> list[str]:
    """Return the names of programs below /bin that are links: those of busybox that are not there, and bash."""
    listing = subprocess.run([_program("busybox"), "--list"], capture_output=True, text=True, check=True).stdout
    own = {_program(name).relative_to("/").as_posix() for name in ("bash", "busybox")}
    return [name for name in sorted({*listing.split(), "bash"}) if f"bin/{name}" not in own]


def _link(archive: tarfile.TarFile, path: str, target: str) -> None:
    link = tarfile.TarInfo(path)
    link.type, link.linkname = tarfile.SYMTYPE, target
    archive.addfile(link)


def _files() -> set[Path]:
    python = set(_standard_library(Path(sysconfig.get_path("stdlib"))))
    binaries = [interpreter(), *(path for path in python if path.suffix == ".so")]
    return {interpreter(), *python, *_libraries(binaries)}


def _standard_library(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        yield from (
            Path(folder, name) for name in files if not _is_left_out(name) and not name.endswith(LEFT_OUT_SUFFIXES)
        )


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(LEFT_OUT_PREFIXES)


def _libraries(binaries: Iterable[Path]) -> Iterator[Path]:
    """Return the shared libraries of programs and modules, and the loader, under the names that programs request."""
    listing = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    return map(Path, set(_LIBRARY.findall(listing)))


def _add(archive: tarfile.TarFile, path: Path) -> None:
    """Add the file that a path resolves to, so that no link points outside; readable by all users."""
    real = path.resolve()
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    entry.size, entry.mode = real.stat().st_size, 0o755
    entry.mtime = int(real.stat().st_mtime)  # compiled modules are valid only with the time of their sources
    with real.open("rb") as content:
        archive.addfile(entry, content)
