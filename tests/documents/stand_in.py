"""Checks the command line of a program that documents name and tests do not run: ``stand_in.py PROGRAM ARGUMENTS...``.

Exits with a status other than 0, and a line on stderr, if the program would refuse it.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typer.main import get_command

from broadway import __version__
from broadway.cli.app import app
from broadway.cli.services import SERVICES
from broadway.settings.loading import load
from broadway.settings.programs import PROGRAMS

ROOT = Path(__file__).parents[2]
# The options that documents use, and whether each takes a value. tests/compose/test_options.py asks Compose itself.
OF_COMPOSE: Mapping[str, Mapping[str, bool]] = {
    "build": {},
    "down": {"--volumes": False, "-v": False},
    "exec": {"-T": False},
    "logs": {"--follow": False, "-f": False, "--tail": True},
    "ps": {},
    "restart": {},
    "run": {"--rm": False, "--user": True, "-v": True},
    "start": {},
    "stop": {},
    "up": {"-d": False, "--build": False, "--scale": True},
}
OF_DOCKER: Mapping[str, Mapping[str, bool]] = {
    "build": {"-f": True, "-t": True, "--build-arg": True},
    "ps": {"-a": False, "--filter": True},
    "pull": {},
    "network": {},
}


class WrongError(Exception):
    """The program would refuse the command line."""


def broadway(arguments: Sequence[str]) -> None:
    """Parse with the parser of the command `broadway`, and run nothing; a service reads its settings."""
    if arguments[0] in SERVICES and not any(each and not each.startswith("-") for each in arguments[1:2]):
        load(PROGRAMS[arguments[0]], prog=f"broadway {arguments[0]}", arguments=arguments[1:])
        return
    command = get_command(app)
    _empty(command)
    command.main(list(arguments), prog_name="broadway")


def _empty(command: Any) -> None:
    command.callback = None
    for each in getattr(command, "commands", {}).values():
        _empty(each)


def python(arguments: Sequence[str]) -> None:
    """Read the settings of `python -m broadway.X` as the program does; check that other modules and files exist."""
    first, *rest = arguments
    if first != "-m":
        if not (ROOT / first).is_file():
            raise WrongError(f"no file {first}")
        return
    module, *rest = rest
    if kind := PROGRAMS.get(module.removeprefix("broadway.")):
        load(kind, prog=module, arguments=rest)
    elif find_spec(module) is None:
        raise WrongError(f"no program {module}")


def docker(arguments: Sequence[str]) -> None:
    """Check a command of the engine's client, or of Compose."""
    if arguments[0] == "compose":
        compose(arguments[1:])
        return
    options, _ = parsed("docker", OF_DOCKER, arguments)
    if "-f" in options and not Path(options["-f"]).is_file():
        raise WrongError(f"no file {options['-f']}")


def compose(arguments: Sequence[str]) -> None:
    """Check that Compose's file exists and has the services."""
    file, rest = Path("compose.yaml"), list(arguments)
    if rest[0] in ("-f", "--file"):
        file, rest = Path(rest[1]), rest[2:]
    if not file.is_file():
        raise WrongError(f"no file {file}")
    options, operands = parsed("docker compose", OF_COMPOSE, rest)
    services = services_of(file.read_text())
    named = operands[:1] if rest[0] in ("run", "exec") else operands
    scaled = [options["--scale"].partition("=")[0]] if "--scale" in options else []
    if unknown := {*scaled, *named} - services:
        raise WrongError(f"{file} has no service {', '.join(sorted(unknown))}")
    if named == ["cli"]:
        os.environ |= {"BROADWAY_TOKEN": "x", "BROADWAY_COURSE": "x", "BROADWAY_COURSE_TOKEN": "x"}
        broadway(operands[1:])


def services_of(text: str) -> set[str]:
    """Return the services of one of our Compose files, faster than with a YAML parser."""
    section = re.search(r"^services:\n(.*?)(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^  ([\w-]+):", section[1], re.MULTILINE)) if section else set()


def parsed(
    program: str, known: Mapping[str, Mapping[str, bool]], arguments: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Return the options and the operands of a command of a program, if ``known`` has them."""
    command, *rest = arguments
    if command not in known:
        raise WrongError(f"{program} {command} is not in the table of this check")
    options: dict[str, str] = {}
    while rest and rest[0].startswith("-"):
        option, _, value = rest.pop(0).partition("=")
        if option not in known[command]:
            raise WrongError(f"{program} {command} {option} is not in the table of this check")
        options[option] = value or (rest.pop(0) if known[command][option] else "")
    return options, rest


OF_PACKAGES = ("prometheus",)  # units that come with a package


def systemctl(arguments: Sequence[str]) -> None:
    """Check the verb, and that the repository has the unit."""
    verb, *rest = [each for each in arguments if each != "--now"]
    if verb not in ("enable", "disable", "start", "stop", "restart", "status", "daemon-reload"):
        raise WrongError(f"systemctl has no verb {verb}")
    for unit in rest:
        template = re.sub(r"@.*", "@.service", unit) if "@" in unit else f"{unit.removesuffix('.service')}.service"
        if unit not in OF_PACKAGES and not (ROOT / "deploy" / "systemd" / template).is_file():
            raise WrongError(f"no unit {template} in deploy/systemd")


def git(arguments: Sequence[str]) -> None:
    """Check the verb; a clone is an empty directory."""
    verb, *rest = arguments
    if verb not in ("clone", "pull"):
        raise WrongError(f"git {verb} is not in the table of this check")
    if verb == "clone":
        Path(rest[-1].rpartition("/")[2].removesuffix(".git")).mkdir()


def installer(arguments: Sequence[str]) -> None:
    """Check that an installed package is our wheel, in its version, with extras that it has."""
    wheel, _, named = arguments[-1].removesuffix("]").partition("[")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    expected = f"dist/broadway_grading-{__version__}-py3-none-any.whl"
    if "install" not in arguments or wheel != expected or not set(named.split(",")) <= set(extras):
        raise WrongError(f"{arguments[-1]} is not {expected} with some of {', '.join(extras)}")


def unshare(arguments: Sequence[str]) -> None:
    """Check that the module to run in other namespaces is one of the tests' programs."""
    for module in re.findall(r"-m (\w+)", " ".join(arguments)):
        if not (ROOT / "tests" / module / "__main__.py").is_file():
            raise WrongError(f"tests has no program {module}")


def kubectl(arguments: Sequence[str]) -> None:
    """Check that the files of a command exist, and that the objects that it names are in our manifests."""
    rest = [each for each in arguments if each != "-n" and not each.startswith("--")]
    if "-n" in arguments:
        rest.remove(namespace := arguments[arguments.index("-n") + 1])
        if not _in_manifests(rf"^  name: {re.escape(namespace)}$"):
            raise WrongError(f"deploy/kubernetes has no namespace {namespace}")
    verb, *operands = rest
    if verb in ("apply", "delete") and operands[0] == "-f":
        missing = [each for each in operands[1:] if not (ROOT / each).exists()]
        if missing or len(operands) < 2:
            raise WrongError(f"no file {', '.join(missing)}")
        return
    if verb == "create" and operands[:2] == ["secret", "generic"]:
        wanted = rf"(secretName|name): {re.escape(operands[2])}\b"
    elif verb in ("rollout", "wait", "scale", "get", "logs", "exec"):
        named = [each.rpartition("/")[2] for each in operands if "/" in each][:1]
        wanted = rf"^  name: {re.escape(named[0])}$" if named else ""
    else:
        raise WrongError(f"kubectl {verb} is not in the table of this check")
    if not _in_manifests(wanted):
        raise WrongError(f"deploy/kubernetes names no such object: {shlex.join(operands)}")


def _in_manifests(pattern: str) -> bool:
    manifests = (ROOT / "deploy" / "kubernetes").rglob("*.yaml")
    return any(re.search(pattern, path.read_text(), re.MULTILINE) for path in manifests)


def sudo(arguments: Sequence[str]) -> None:
    """Run the stand-in of the command that follows."""
    check(arguments[0], arguments[1:])


def apt_get(arguments: Sequence[str]) -> None:
    """Check that scripts/bootstrap would install the packages, too."""
    verb, *packages = [each for each in arguments if not each.startswith("-")]
    known = (ROOT / "scripts" / "bootstrap").read_text()
    unknown = [package for package in packages if not re.search(rf"\b{re.escape(package)}\b", known)]
    if verb not in ("update", "install") or unknown:
        raise WrongError(f"scripts/bootstrap names no {', '.join(unknown)}")


def script(name: str, arguments: Sequence[str]) -> None:
    """Check a script's syntax, and arguments against the usage in its head."""
    text = (ROOT / name).read_text()
    subprocess.run(["bash", "-n", ROOT / name], check=True)
    for argument in arguments:
        if not re.search(rf"^#.*{re.escape(Path(name).name)} +{re.escape(argument)}\b", text, re.MULTILINE):
            raise WrongError(f"the head of {name} does not name the argument {argument}")


STAND_INS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "broadway": broadway,
    "python": python,
    "docker": docker,
    "systemctl": systemctl,
    "git": git,
    "sudo": sudo,
    "unshare": unshare,
    "kubectl": kubectl,
    "pipx": installer,
    "uv": installer,
    "apt-get": apt_get,
}


def check(program: str, arguments: Sequence[str]) -> None:
    """Check a command line.

    Raises:
        WrongError: The program would refuse it.
    """
    if program in STAND_INS:
        STAND_INS[program](arguments)
    else:
        script(program, arguments)


def main() -> None:
    program, *arguments = sys.argv[1:]
    try:
        check(program, arguments)
    except WrongError as error:
        sys.exit(f"{shlex.join([program, *arguments])}: {error}")


if __name__ == "__main__":
    main()
