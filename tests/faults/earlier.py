"""The version before this one, from git's history, with the libraries that it pins."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.world import Role

ROOT = Path(__file__).parents[2]
# Main before Broadway had rolling upgrades. Its messages and documents are recorded, too: recordings/data/005-8306c97.
COMMIT = "4510e13f6b326715fb3577e422f11cca749bb490"


KEPT = ROOT / ".broadway" / "earlier" / COMMIT[:8]


@dataclass(frozen=True)
class Earlier:
    """A checkout of an earlier version, and the interpreter of its environment."""

    home: Path
    python: str

    @property
    def path(self) -> str:
        return os.pathsep.join((str(self.home / "tests"), str(self.home)))

    def run_by(self, role: Role) -> None:
        """Let a process be this version from its next start on."""
        _, *arguments = role.command
        mine, theirs = str(ROOT / "tests"), str(self.home / "tests")
        role.command = [self.python, *(each.replace(mine, theirs) for each in arguments)]
        role.environment = {**role.environment, "PYTHONPATH": self.path}
        role.is_warm = False


def extract(directory: Path) -> Earlier:
    """Return the earlier version in a directory, which keeps it for the next session."""
    earlier = Earlier(directory / "checkout", str(directory / "venv" / "bin" / "python"))
    is_whole = directory / "is-whole"
    if not is_whole.exists():
        shutil.rmtree(directory, ignore_errors=True)
        _check_out(earlier.home)
        _install(directory / "venv", earlier)
        is_whole.touch()
    where = "import broadway.service; print(broadway.service.__file__)"
    variables = {**os.environ, "PYTHONPATH": earlier.path}
    command = [earlier.python, "-c", where]
    imported = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
    assert Path(imported.stdout.strip()).is_relative_to(earlier.home), imported.stderr
    return earlier


def _check_out(home: Path) -> None:
    found = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        reason = found.stderr.decode().strip()
        pytest.fail(f"the commit {COMMIT} is not in this clone: `git fetch --unshallow`, then try again ({reason})")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(home, filter="data")


def _install(environment: Path, earlier: Earlier) -> None:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [earlier.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
    subprocess.run([*pip, "-r", str(earlier.home / "requirements" / "runtime.txt")], check=True)
