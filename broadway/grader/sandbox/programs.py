"""The program that a stage's container executes, and failed starts that are the student's: files below ``/job``.

Engines and runtimes report a failed start as a text. A text counts as the student's failure only if the program or the
working directory lies below ``/job``, where students' files are: an image's or a config's program that is missing
stays the fault of staff.
"""

import json
import os
import posixpath
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.grader.ports import ContainerError, StageRun
from broadway.grader.sandbox.profile import TARGET

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit codes of a program that was not started, as in shells and engines
LATE_CODES = frozenset({1, NOT_EXECUTABLE, NOT_FOUND, 255})  # exit codes after a failed exec in a started container
INIT = "/sbin/docker-init"  # the path of the program that reaps processes, in containers of engines and of ours
_LATE_OUTPUT = 16 * 1024  # bytes; the output of a failed exec has a line or a few
_SHOWN = 200  # characters of a path in a reason
_MOST_LINKS = 40  # as in the kernel

# The system's words for an error, and a sentence for the reader of a result. The first match counts.
_WHY = {
    "no such file or directory": "it does not exist, or it names an interpreter that does not exist",
    "not a directory": "a part of its path is not a directory",
    "is a directory": "it is not an executable file",
    "permission denied": "it is not an executable file",
    "operation not permitted": "it is not an executable file",
    "no such device or address": "it is not an executable file",
    "too many levels of symbolic links": "its links lead in a circle",
    "too many symbolic links": "its links lead in a circle",
    "file name too long": "its path is too long",
    "exec format error": "it is not a program for this machine, and it names no interpreter",
    "text file busy": "it is still open for writing",
    "bad address": "it is not a complete program",
    "invalid argument": "it is not a complete program",
    "input/output error": "it is not a complete program",
}
_NOT_IN_PATH = re.compile(r"executable file|finding executable", re.IGNORECASE)
_ABSENT = ("it is not found", "it does not exist")

# The last output of containers whose program could not be executed: of runc, earlier versions of it, tini, and crun.
_LATE = (
    re.compile(r"^exec (?P<program>.*): (?P<error>[a-z][a-z ]+)$", re.DOTALL),
    re.compile(r"exec user process caused:? \"?(?P<program>)(?P<error>[a-z][a-z ]+)\"?$"),
    re.compile(r"^\[FATAL tini \(\d+\)\] exec (?P<program>.*) failed: (?P<error>[A-Z][A-Za-z ]+)$", re.DOTALL),
    re.compile(
        r'"msg":"exec container process (?:\([^)]*\) )?`(?P<program>.*)`: (?P<error>[A-Z][A-Za-z ]+)"', re.DOTALL
    ),
)
_OWN_PLACES = re.compile(r"^/+proc/+(?:self|thread-self|1)/+(?P<place>root|cwd)(?=/|$)")
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STAMP = re.compile(r"^\S+Z ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Program:
    """The first word of a container's command, the directory in which it starts, and its PATH."""

    name: str
    directory: str
    path: str

    @classmethod
    def of(cls, options: Mapping[str, Any], config: Mapping[str, Any]) -> "Program":
        """Return the program of a container.

        Args:
            options: The result of ``profile.container_options``.
            config: The image's defaults, in an engine's form.
        """
        command = options["entrypoint"] or [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
        variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        return cls(
            name=command[0] if command else "",
            directory=options.get("working_dir") or config.get("WorkingDir") or "/",
            path=str(options["environment"].get("PATH") or variables.get("PATH") or ""),
        )

    @property
    def is_below_job(self) -> bool:
        """True if the program is, or may be, one of the files that stages share."""
        if "/" in self.name:
            return _is_below(self._at(self.name))
        return any(_is_below(self._at(entry)) for entry in self.path.split(":")) if self.path else False

    def is_named_in(self, text: str) -> bool:
        """Return whether a text contains the program's name, in a form that runtimes use."""
        forms = (self.name, json.dumps(self.name, ensure_ascii=False)[1:-1], self._at(self.name))
        return any(form in text for form in forms)

    def _at(self, path: str) -> str:
        place = _OWN_PLACES.sub(lambda found: "/" if found["place"] == "root" else self.directory, path)
        return "/" + posixpath.normpath(posixpath.join("/", self.directory, place)).lstrip("/")


def students_fault(text: str, program: Program, mounts: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the reason for which a container was not started if students' files are the cause, else None.

    Args:
        text: The runtime's error.
        program: The program of the container.
        mounts: The container's mounts, in an engine's form.
    """
    is_own = program.is_below_job and _can_execute(mounts)
    if is_own and program.is_named_in(text) and (why := _why(text, program)):
        return f"{_shown(program.name)} cannot be started: {why}"
    return _unfit_directory(text, program.directory, mounts)


def with_late_fault(run: StageRun, text: str, program: Program, mounts: Sequence[Mapping[str, Any]]) -> StageRun:
    """Return the record of a stage that ran, with the error of a program that its container could not execute.

    Args:
        run: The record.
        text: The output, even if the stage hides it. A program may print the words of a runtime itself: that makes no
            difference for a student's program, which has failed either way, and is only a suspicion for another one.
        program: The program of the container.
        mounts: The container's mounts, in an engine's form.
    """
    if run.exit_code not in LATE_CODES or run.output_bytes > _LATE_OUTPUT or run.killed_for:
        return run
    found = failed_exec(text)
    if found is None or found[0] not in ("", program.name) or not (why := _why(found[1], program)):
        return run
    reason = f"{_shown(program.name)} cannot be started: {why}"
    is_own = program.is_below_job and _can_execute(mounts)
    return replace(run, not_started=reason) if is_own else replace(run, suspicion=reason)


def failed_exec(text: str) -> tuple[str, str] | None:
    """Return the program and the error in the output of a container that could not execute a program, else None."""
    plain = _STAMP.sub("", text).strip("\n")
    for pattern in _LATE:
        if found := pattern.search(plain):
            return found["program"], found["error"]
    return None


def never_started(stage: Stage, reason: str) -> StageRun:
    """Return the record of a stage whose program was not started, for a reason that is the student's."""
    now = datetime.now(UTC)
    code = NOT_FOUND if any(absent in reason for absent in _ABSENT) else NOT_EXECUTABLE
    line = f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z {reason}\n" if stage.logs else ""
    return StageRun(
        exit_code=code,
        killed_for=None,
        oom_killed=False,
        started_at=now,
        finished_at=now,
        output=line,
        streams=[(0, 1)] if line else [],
        output_bytes=0,
        state=final_state(code, now, now, oom_killed=False),
        not_started=reason,
    )


def check_trial(run: StageRun) -> None:
    """Make sure that a container of the grader's own has run well.

    Raises:
        ContainerError: It has not.
    """
    if run.exit_code or run.killed_for:
        why = f"was killed for its {run.killed_for}" if run.killed_for else f"ended with exit code {run.exit_code}"
        raise ContainerError(f"a container of the grader's own {why}", phase=FaultPhase.WAIT, retryable=True)


def final_state(exit_code: int, started_at: datetime, finished_at: datetime, *, oom_killed: bool) -> dict[str, Any]:
    """Return a container's final state in the format of an engine."""
    return {
        "Status": "exited",
        "Running": False,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": oom_killed,
        "Dead": False,
        "Pid": 0,
        "ExitCode": exit_code,
        "Error": "",
        "StartedAt": started_at.isoformat(),
        "FinishedAt": finished_at.isoformat(),
    }


def _can_execute(mounts: Sequence[Mapping[str, Any]]) -> bool:
    """Return False if this host allows no program in a job's directory (the mount option noexec)."""
    own = [str(mount["Source"]) for mount in mounts if _is_below(str(mount["Target"]))]
    try:
        return not any(os.statvfs(place).f_flag & os.ST_NOEXEC for place in own)
    except OSError:
        return False


def _is_below(path: str) -> bool:
    return path == TARGET or path.startswith(f"{TARGET}/")


def _why(text: str, program: Program) -> str | None:
    if "/" not in program.name and _NOT_IN_PATH.search(text):
        return "it is not found in PATH"
    lowered = text.lower()
    return next((why for phrase, why in _WHY.items() if phrase in lowered), None)


def _shown(path: str) -> str:
    shown = path if path.isprintable() else repr(path)[1:-1]
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _unfit_directory(text: str, directory: str, mounts: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the reason for which a working directory below ``/job`` cannot be used, else None.

    A link counts only if the text names the path: a link that leads to a directory is no obstacle.
    """
    job = next((str(mount["Source"]) for mount in mounts if mount["Target"] == TARGET), None)
    path = "/" + posixpath.normpath(directory).lstrip("/")
    if job is None or not path.startswith(f"{TARGET}/"):
        return None
    found = obstacle(job, path[len(TARGET) + 1 :])
    if found and (found.is_certain or path in text):
        return f"{_shown(path)} cannot be the working directory: {found.problem}"
    return None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A problem with a path; a link may lead to a directory nevertheless, and so is no certain one."""

    problem: str
    is_certain: bool


def obstacle(job: str | os.PathLike[str], path: str) -> Obstacle | None:
    """Return the first part of a path below a job's directory that exists and is not a directory; None if all are."""
    place = os.open(job, _PLACE)
    try:
        for part in path.split("/"):
            try:
                mode = os.stat(part, dir_fd=place, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    return _link(place, part)
                below = os.open(part, _PLACE | os.O_NOFOLLOW, dir_fd=place)
            except FileNotFoundError:
                return None  # the runtime makes it
            except OSError as error:
                return Obstacle(str(error.strerror).lower(), is_certain=True)
            os.close(place)
            place = below
    finally:
        os.close(place)
    return None


def _link(place: int, name: str) -> Obstacle:
    for _ in range(_MOST_LINKS):
        try:
            name = os.readlink(name, dir_fd=place)
        except OSError:
            name = "/"
        if "/" in name:
            return Obstacle("a part of the path is a link", is_certain=False)
    return Obstacle("its links lead in a circle", is_certain=True)
