"""Errors of the runtime in an engine's words, so that the reader of a result sees no difference."""

import re

from broadway.domain.job import FaultPhase
from broadway.grader.oci.accounts import UnknownUserError
from broadway.grader.oci.container import StartError
from broadway.grader.ports import ContainerError

_NOT_FOUND = re.compile(r"executable file .* not found", re.DOTALL)
_REFUSED = re.compile(r"^(open executable|exec).*: ([A-Z][a-z ]+)$", re.DOTALL)
_REASONS = {"Operation not permitted": "permission denied"}  # crun's error for a directory
_STAGES_FAULT = re.compile(r"sethostname|chdir|cwd|the target .* is invalid", re.DOTALL)
_PATHS = re.compile(r"`[^`]*`|/\S+")


def start_fault(error: Exception, subject: str, program: str) -> ContainerError:
    """Translate an error at the start of a container for the reader of a result, without details of the host."""
    if isinstance(error, UnknownUserError):
        return ContainerError(f"{subject}: {error}", phase=FaultPhase.START, retryable=False)
    if not isinstance(error, StartError):
        reason = f"{subject}: the container could not be made ({describe(error)})"
        return ContainerError(reason, phase=FaultPhase.START, retryable=True)
    text = str(error)
    cause = not_executed(text, program)
    is_stages = cause is not None or bool(_STAGES_FAULT.search(text))
    return ContainerError(
        f"{subject}: {cause or _PATHS.sub('...', text)}"[:800], phase=FaultPhase.START, retryable=not is_stages
    )


def describe(error: Exception) -> str:
    """Describe an error without the path in it."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__


def not_executed(text: str, program: str) -> str | None:
    """Return a runtime's error in an engine's words if a program could not be executed; None for any other error."""
    if _NOT_FOUND.search(text):
        where = f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"
        return f'exec: "{program}": {where}'
    if found := _REFUSED.search(text):
        return f'exec: "{program}": {_REASONS.get(found[2], found[2].lower())}'
    return None
