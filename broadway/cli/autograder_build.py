"""Building the image of a Gradescope autograder with this host's ``docker`` command."""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from broadway.cli.autograder_zip import write_context
from broadway.cli.package_settings import IN_MEMORY, PackageSettings

_NEEDED = ("bash", "curl", "git", "python3", "pip3", "unzip", "wget", "sudo")  # programs that setup scripts expect
_PACKAGES = "bash ca-certificates curl dos2unix git python3 python3-pip unzip wget sudo"
_CHANGES = ("USER 0:0", "WORKDIR /autograder", 'ENTRYPOINT ["/autograder/run_autograder"]', "CMD []")
_SETUP = f"""
set -e
main() {{
    cd /
    export DEBIAN_FRONTEND=noninteractive
    if command -v apt-get >/dev/null; then
        apt-get update
        for each in {" ".join(_NEEDED)}; do
            command -v "$each" >/dev/null || {{ apt-get install -y --no-install-recommends {_PACKAGES}; break; }}
        done
    fi
    bash /autograder/source/setup.sh
    if command -v apt-get >/dev/null; then apt-get clean; fi
    rm -rf /var/lib/apt/lists/* /tmp/* /var/tmp/* {IN_MEMORY}
}}
main </dev/null
"""
_PROXIES = {"httpProxy": "http_proxy", "httpsProxy": "https_proxy", "noProxy": "no_proxy", "allProxy": "all_proxy"}


class BuildError(Exception):
    """The image was not built; the text says which step failed."""


@dataclass(frozen=True, slots=True)
class Build:
    """A build with the ``docker`` command, whose output goes to this command's standard error."""

    program: str
    environ: Mapping[str, str]
    network: str = ""

    def image(self, archive: Path, *, base: str, tag: str, settings: PackageSettings) -> str:
        """Build and tag an image; return the directory of the archive that was left out, or "".

        Raises:
            BuildError: A step failed.
            AutograderRefusedError: The archive is not an autograder's.
            OSError: The archive cannot be read, or there is no room.
        """
        with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "context").open("w+b") as context:
            top = write_context(archive, context)
            context.flush()
            context.seek(0)
            made = Path(scratch) / "image"
            steps = ("build", "--build-arg", f"BASE={base}", "--iidfile", str(made), "-")
            self._run("the files could not be added to the base", *steps, stdin=context.fileno())
            self._set_up(made.read_text().strip(), tag, settings)
        return top

    def _set_up(self, image: str, tag: str, settings: PackageSettings) -> None:
        """Run the setup in a container, which gets the settings by its input, and keep the container as an image."""
        name = f"broadway-build-{token_hex(6)}"
        network = ("--network", self.network) if self.network else ()
        try:
            with tempfile.TemporaryFile() as script:
                script.write((settings.script() + _SETUP).encode("utf-8", "replace"))
                script.seek(0)
                start = ("run", "--interactive", "--name", name, *network, "--entrypoint", "/bin/sh", image, "-s")
                self._run("setup.sh failed", *start, stdin=script.fileno())
            changes = [part for each in _CHANGES for part in ("--change", each)]
            self._run("the image could not be stored", "commit", *changes, name, tag)
        finally:
            self._quietly("rm", "--force", "--volumes", name)
            self._quietly("rmi", "--no-prune", image)

    def _run(self, failure: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> None:
        done = subprocess.run([self.program, *arguments], stdin=stdin, stdout=2, env=self.environ, check=False)
        if done.returncode:
            raise BuildError(f"{failure} (docker {arguments[0]} ended with exit code {done.returncode})")

    def _quietly(self, *arguments: str) -> None:
        subprocess.run([self.program, *arguments], capture_output=True, env=self.environ, check=False)


@contextlib.contextmanager
def prepared(environ: Mapping[str, str], network: str = "") -> Iterator[tuple[Build, PackageSettings]]:
    """Yield the build and this host's settings. Docker itself gets no proxies: it would keep them in the image.

    Raises:
        BuildError: There is no ``docker`` command.
    """
    program = shutil.which("docker", path=environ.get("PATH"))
    if program is None:
        raise BuildError("no docker command is in PATH; build the image where Docker is")
    with tempfile.TemporaryDirectory() as scratch:
        proxies = _without_proxies(Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker"), Path(scratch))
        settings = PackageSettings.of_host({**proxies, **environ})
        yield Build(program, {**environ, "DOCKER_CONFIG": scratch}, network), settings


def _without_proxies(config: Path, copy: Path) -> dict[str, str]:
    """Make a copy of docker's configuration without proxies, and return them as variables."""
    for entry in config.iterdir() if config.is_dir() else ():
        if entry.name != "config.json":
            (copy / entry.name).symlink_to(entry.absolute())
    try:
        given = json.loads((config / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(given, dict):
        return {}
    proxies = given.pop("proxies", None)
    (copy / "config.json").write_text(json.dumps(given))
    default = proxies.get("default") if isinstance(proxies, dict) else None
    found = default if isinstance(default, dict) else {}
    return {name: value for key, name in _PROXIES.items() if isinstance(value := found.get(key), str) and value}
