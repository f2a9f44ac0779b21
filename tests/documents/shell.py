"""Runs the commands of documents, in bash, in a directory that stands for a checkout.

Every program that a document calls is either run, as listed in ``REAL`` and by ``LAUNCHERS``, or its command line is
checked by stand_in.py, for the reason in ``STAND_INS``. Any other program is not found, so its block fails.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from documents.reading import ROOT
from forks import TESTS, fork_server
from sybil import Example

WITHIN = 60  # seconds for a block

REAL = (
    *("bash", "sh", "cat", "chmod", "cp", "cut", "date", "dirname", "grep", "head", "hostname", "install", "ls"),
    *("mkdir", "mv", "od", "openssl", "sed", "sha256sum", "tail", "tee", "tr"),
)

STAND_INS: Mapping[str, str] = {
    "docker": "starts containers for minutes: its options and Compose's services are checked; tests/compose runs them",
    "git": "needs the repository's address",
    "systemctl": "needs systemd as process 1: the unit has to exist; tests/deploy/test_systemd_unit.py reads it",
    "sudo": "is root's business: the command behind it is checked",
    "apt-get": "changes the machine; scripts/bootstrap installs what it names",
    "kubectl": "needs a cluster: files and names are checked; tests/deploy/test_kubernetes.py validates the manifests",
    "pipx": "asks a package registry: the wheel and its extra are checked; tests/deploy/test_wheel.py installs it",
    "uv": "asks a package registry, too",
    "unshare": "records messages for a later version",
    "scripts/bootstrap": "has been run before the tests: its arguments are checked",
    "scripts/lock": "asks a package registry",
    "scripts/test": "runs these tests",
    ".ci/run": "runs these tests",
}

# Programs that run with their own launcher. "$@" are the arguments.
LAUNCHERS: Mapping[str, str] = {
    # `up` runs until Ctrl-C, a build needs an autograder, and a dry run needs an engine: the real parser checks their
    # options, and tests/test_up.py, tests/grader/test_autograders.py and test_dry_runs.py run them. The doctor may find
    # a problem of this machine (1), and a run may be over before it is cancelled (1): neither is a wrong command.
    # `login` asks for a token, and `logout` needs a login: tests/cli/test_logins.py runs them. A regrade needs a
    # class that is graded: tests/cluster/test_regrades.py has one.
    # A restore needs an empty store: tests/backup/test_commands.py has one.
    # Operators' commands without a token find the deployment as beside a `broadway up`.
    "broadway": """
        case "$1:${BROADWAY_OPERATOR_TOKEN-}${BROADWAY_TOKEN-}${BROADWAY_COURSE_TOKEN-}" in
            backup:|course:|dead:|doctor:|grader:|migrate:|pool:|queue:|topology:)
                unset BROADWAY_SERVER BROADWAY_AMQP_URL BROADWAY_MONGODB_DSN BROADWAY_MANAGEMENT_URL ;; esac
        case "$1 $2 $*" in
            "api "*|"ingest "*|"dispatcher "*|"results "*|"notifier "*|"grader  "*|"grader -"*)
            forked "$stand_in" broadway "$@"; exit;;
            "restore --check "*) ;;
            "restore "*|"backup "*" --up "*) forked "$stand_in" broadway "$@"; exit;;
            "up "*|"login "*|"logout "*|"regrade "*|*" build-gradescope "*|"assignment validate "*" --run "*)
            forked "$stand_in" broadway "$@"; exit;; esac
        errors=$DOCUMENT_STATE.errors status=0
        forked -m broadway "$@" 2> "$errors" || status=$?
        said=$(< "$errors"); printf %s "$said" >&2
        case "$1:$status:$said" in doctor:1: | run:1:*"the run is over") exit 0 ;; esac
        exit $status""",
    # Services run until they are stopped, and other modules run for minutes: the real loader reads the settings,
    # and the module or the file must exist. tests/cluster runs the services.
    "python": """
        if [[ "$1 $2" == "-m broadway.readiness" ]]; then forked "$@"; else forked "$stand_in" python "$@"; fi""",
    "curl": """exec "$curl" --fail-with-body --max-time 30 "$@" """,  # so that a refusal is a failure
    # The cases of the rules take seconds: tests/deploy/test_alerts.py runs them.
    "promtool": """
        if [[ "$1 $2" == "test rules" ]]; then [[ -f "$3" ]]; exit; fi
        exec "$promtool" "$@" """,
    "make": """exec "$make" --dry-run --directory="$root" "$@" """,  # the target must exist; each is tested elsewhere
}

COPIED = ("compose", "deploy", "demo", "docs", "Makefile", "LICENSE")
OUR_STATE = shutil.ignore_patterns("secrets", ".env", "__pycache__")

HEAD = """
set -euo pipefail -o allexport
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
trap '{ export -p; printf "cd %q\\n" "$PWD"; } > "$DOCUMENT_STATE"' EXIT
source "$DOCUMENT_STATE"
"""


def checkout(directory: Path) -> Path:
    """Make a directory that looks like a checkout with its `.venv`, in which documents may write."""
    for each in COPIED:
        source = ROOT / each
        if source.is_dir():
            shutil.copytree(source, directory / each, ignore=OUR_STATE)
        else:
            shutil.copy(source, directory / each)
    (directory / "etc" / "systemd" / "system").mkdir(parents=True)
    (directory / "tests").mkdir()
    for program in REAL:
        _target(directory, program).symlink_to(_found(program))
    for program, script in LAUNCHERS.items():
        _launcher(directory, program, script)
        _launcher(directory, f".venv/bin/{program}", script)
    for program in STAND_INS:
        _launcher(directory, program, f'forked "$stand_in" {program} "$@"')
    return directory


def _target(directory: Path, program: str) -> Path:
    path = directory / program if "/" in program else directory / "bin" / program
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _found(program: str) -> str:
    path = shutil.which(program)
    assert path, f"{program} is not installed"
    return path


def _launcher(directory: Path, program: str, script: str) -> None:
    values = {
        "python": sys.executable,
        "client": str(TESTS / "programs" / "fork_client.py"),
        "stand_in": str(TESTS / "documents" / "stand_in.py"),
        "curl": _found("curl"),
        "make": _found("make"),
        "promtool": _found("promtool"),
        "root": str(ROOT),
    }
    head = ["#!/bin/bash", *(f"{name}={value}" for name, value in values.items())]
    path = _target(directory, program)
    path.write_text("\n".join([*head, 'forked() { "$python" -IS "$client" "$FORK_SERVER" "$@"; }', script, ""]))
    path.chmod(0o755)


@dataclass(frozen=True)
class Shell:
    """Runs blocks one after another; each block starts with the variables and the directory of the previous one.

    ``replaced`` maps texts of documents to their replacements, such as the API's address.
    """

    checkout: Path
    environment: Mapping[str, str]
    replaced: Mapping[str, str]

    @classmethod
    def open(cls, directory: Path, environment: Mapping[str, str], replaced: Mapping[str, str]) -> Self:
        """Open a shell in a new checkout."""
        place = checkout(directory)
        own = {"PATH": f"{place}/bin", "HOME": str(place), "LANG": "C.UTF-8", "DOCUMENT_STATE": f"{place}/state"}
        shell = cls(place, {**own, **environment}, {**replaced, "/etc/": f"{place}/etc/"})
        shell.restart()
        return shell

    def restart(self) -> None:
        """Reset the variables and the directory, for another document."""
        (self.checkout / "state").write_text(f"cd {self.checkout}\n")

    def run(self, commands: str) -> str | None:
        """Run a block; return the output if it fails."""
        for text, other in self.replaced.items():
            commands = commands.replace(text, other)
        script = self.checkout / "block"
        script.write_text(f"{HEAD}\n{commands}\n")
        server = fork_server().control.fileno()
        done = subprocess.run(
            [_found("timeout"), str(WITHIN), _found("bash"), str(script)],
            env={**self.environment, "FORK_SERVER": str(server)},
            pass_fds=[server],
            cwd=self.checkout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return f"exit status {done.returncode}\n{done.stdout}" if done.returncode else None


def run_script(example: Example) -> str | None:
    """Evaluate a block of `sh` as one script."""
    shell: Shell = example.namespace["shell"]
    return shell.run(example.parsed)


def run_session(example: Example) -> str | None:
    """Evaluate a block of `console`: run the lines after prompts."""
    commands = typed(example.parsed)
    shell: Shell = example.namespace["shell"]
    return shell.run(commands) if commands else "no line begins with a prompt, `$ `"


def typed(session: str) -> str:
    """Return the typed lines of a session: after `$ `, after `> `, or after a line that ends in a backslash."""
    lines: list[str] = []
    for line in session.splitlines():
        if line.startswith("$ ") or (lines and line.startswith("> ")):
            lines.append(line[2:])
        elif lines and lines[-1].endswith("\\"):
            lines.append(line)
    return "\n".join(lines)


def hidden_command(text: str) -> str | None:
    """Refuse a text with a line that begins with a prompt or a known program, because no test would run it."""
    known = {*LAUNCHERS, *STAND_INS, ".venv/bin/broadway", ".venv/bin/python", "$"}
    hidden = [line for line in text.splitlines() if line.split(maxsplit=1)[:1] and line.split()[0] in known]
    return f"a command in a block of text, which nothing runs: {hidden[0]}" if hidden else None
