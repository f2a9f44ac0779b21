"""Environments with Broadway's wheel and the libraries of an extra alone, made without a package registry."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, distribution, distributions
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NAME = "broadway-grading"


def build(directory: Path) -> Path:
    """Build the wheel from this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def environment(home: Path, wheel: Path, *extras: str) -> Path:
    """Install the wheel in a new environment, and link what its extras require; return its `bin`.

    The libraries are those of the environment of the tests. A library that no extra requires is not there.
    """
    installed = _installed(wheel)
    shutil.copytree(installed, home, symlinks=True, ignore=shutil.ignore_patterns("broadway"))
    program = Path(shutil.copy(installed / "bin" / "broadway", home / "bin"))
    program.write_text(program.read_text().replace(str(installed), str(home)))
    (site,) = home.glob("lib/python3*/site-packages")
    (site / "broadway").symlink_to(installed / site.relative_to(home) / "broadway")
    (own,) = (each for each in distributions(path=[str(site)]) if canonicalize_name(each.name) == NAME)
    for library in _closure(own, extras):
        _link(library, site)
    return home / "bin"


@cache
def _installed(wheel: Path) -> Path:
    """Return an environment that has only the wheel; the others are copies of it, with links to its package."""
    home = wheel.parent / "installed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)], check=True)
    (site,) = home.glob("lib/python3*/site-packages")
    _compile(site)
    return home


def _compile(site: Path) -> None:
    """Take the compiled form of each module from this checkout, as far as it has one: so no program compiles them."""
    for module in (site / "broadway").rglob("*.py"):
        source = ROOT / module.relative_to(site)
        compiled = Path(cache_from_source(str(source)))
        if compiled.exists() and source.read_bytes() == module.read_bytes():
            os.utime(module, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
            target = Path(cache_from_source(str(module)))
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(compiled, target)


def _closure(own: Distribution, extras: Iterable[str]) -> Iterator[Distribution]:
    """Yield the distributions that extras of a distribution require, and the requirements of those."""
    known: set[tuple[str, str]] = set()
    waiting = [(own, extra) for extra in ("", *extras)]
    found: dict[str, Distribution] = {}
    while waiting:
        current, extra = waiting.pop()
        for requirement in map(Requirement, current.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(requirement.name)
            wanted = own if name == NAME else distribution(name)
            if name != NAME:
                found[name] = wanted
            new = {(name, each) for each in ("", *requirement.extras)} - known
            known |= new
            waiting += [(wanted, each) for _, each in new]
    yield from found.values()


def _link(library: Distribution, site: Path) -> None:
    """Link the top-level files and directories of a distribution into an environment."""
    source = Path(sysconfig.get_path("purelib"))
    for name in {file.parts[0] for file in library.files or ()} - {"..", "__pycache__"}:
        if not (site / name).exists():
            (site / name).symlink_to(source / name)


def data_files() -> set[str]:
    """Return the files of the package that are not Python, by their names in the wheel."""
    paths = (path for path in (ROOT / "broadway").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in paths if not re.fullmatch(r"\.pyc?", path.suffix)}
