"""A root file system from this machine's Debian packages, for images without a registry to pull a base from."""

import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO

LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/", "/usr/lib/systemd/")
DIRECTORIES = {"tmp": 0o1777, "var/tmp": 0o1777, "run": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755, "root": 0o700}


def write(
    target: IO[bytes],
    packages: Iterable[str],
    *,
    texts: Mapping[str, str],
    links: Mapping[str, str],
    trees: Mapping[Path, str],
) -> None:
    """Write a tar archive of packages with all their dependencies.

    Content from outside packages: ``texts`` has files and their texts, ``links`` has links and their targets, ``trees``
    has directories and their names in the archive.
    """
    files = {Path(line) for line in _query("-L", *sorted(_closure(packages))) if line.startswith("/")}
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, mode in DIRECTORIES.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        for path in sorted(filter(_is_wanted, map(_in_place, {*files, *_compiled(files), *_alternatives(files)}))):
            archive.add(path, str(path)[1:], recursive=False)
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, BytesIO(text.encode()))
        for name, goal in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, goal
            archive.addfile(entry)
        for directory, name in trees.items():
            archive.add(directory, name)


def _closure(packages: Iterable[str]) -> set[str]:
    """Return the packages with all their dependencies; of alternatives, those that this machine has."""
    wants, provides = _installed()
    found: set[str] = set()
    new = set(packages)
    while new:
        found |= new
        new = {provides[name] for package in new for name in wants[package] if name in provides} - found
    return found


def _installed() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the dependencies of each installed package, and the package that is or provides each name."""
    wants, provides = {}, {}
    for line in _query("-W", "-f", "${Package}\t${Depends}, ${Pre-Depends}\t${Provides}\t${db:Status-Status}\n"):
        package, depends, virtual, status = line.split("\t")
        if status == "installed":
            wants[package] = _names(depends)
            provides |= {name: provides.get(name, package) for name in _names(virtual)} | {package: package}
    return wants, provides


def _names(relations: str) -> list[str]:
    """Return the package names in a field such as ``libc6 (>= 2.36), mawk | awk:any``."""
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)", relations)


def _query(*arguments: str) -> list[str]:
    return subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def _compiled(files: set[Path]) -> Iterator[Path]:
    """Yield the bytecode files that the installation has compiled."""
    for directory in {path.parent for path in files if path.suffix == ".py"}:
        yield from directory.glob("__pycache__/*.pyc")


def _alternatives(files: set[Path]) -> Iterator[Path]:
    """Yield links of alternatives such as awk, which belong to no package."""
    for link in Path("/etc/alternatives").iterdir():
        command = Path("/usr/bin", link.name)
        if command.is_symlink() and _in_place(link.resolve()) in files:
            yield from (link, command)


def _in_place(path: Path) -> Path:
    """Return the path of a file with links to directories resolved: /bin is a link to /usr/bin."""
    return path.parent.resolve() / path.name


def _is_wanted(path: Path) -> bool:
    return not str(path).startswith(LEFT_OUT) and os.path.lexists(path) and (path.is_symlink() or path.is_file())
