"""Errors of the engine, translated for the reader of a job's result."""

import re
from http import HTTPStatus

from docker.errors import APIError, DockerException, ImageNotFound

from broadway.domain.job import FaultPhase
from broadway.grader.ports import ContainerError

# Texts of server errors whose true cause is the stage's definition.
_STAGES_FAULT = re.compile(
    r'exec: "|environment variable|sethostname|unable to find (user|group)|finding executable|failed to load /'
    r"|it is inside /proc|must be mounted on ordinary directory"
)
_NO_PLATFORM = "no matching manifest for"  # of an image that exists only for other architectures
_HOSTS_FAULT = re.compile(r"bind source path")
_NOISE = re.compile(r"^.*unable to start container process: |: unknown$", re.DOTALL)
_PRIVATE = re.compile(
    r'(?:Get|Head|Post) "https?://[^"]*"|https?://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?'
    r'|(?<=environment variable).*|(?<=path does not exist).*|(?<=mounting) "[^"]*"'
    r'|"?/[^\s":]*/(?:overlay2|overlayfs|snapshots|containers|rootfs)/[^\s":]*"?|(?<=mount )/[^\s:]+(?=:/)',
    re.DOTALL,
)


def fault(error: Exception, phase: FaultPhase, subject: str) -> ContainerError:
    """Translate an error of the SDK for the reader of a job's result, without host paths, addresses and values."""
    if isinstance(error, ImageNotFound):
        was_here = phase is not FaultPhase.PULL  # removed since the job began; the next attempt pulls it
        return ContainerError(f"{subject}: not found", phase=phase, retryable=was_here)
    if isinstance(error, APIError):
        text = error.explanation or ""
        retryable = not _is_stages_fault(error, text, phase)
        return ContainerError(f"{subject}: {_public(text)}", phase=phase, retryable=retryable)
    if isinstance(error, DockerException):  # refused by the SDK, or an error in the middle of a pull
        retryable = phase is FaultPhase.PULL and "not found" not in str(error) and _NO_PLATFORM not in str(error)
        return ContainerError(f"{subject}: {_public(str(error))}", phase=phase, retryable=retryable)
    if isinstance(error, InterruptedError):
        return ContainerError(f"{subject}: the container was ended from outside", phase=FaultPhase.WAIT, retryable=True)
    reason = f"the container engine does not answer ({type(error).__name__})"
    return ContainerError(reason, phase=phase, retryable=True)


def _public(text: str) -> str:
    """Remove private details from an engine's text, and limit its length."""
    return _PRIVATE.sub(" ...", _NOISE.sub("", text))[:400]


def _is_stages_fault(error: APIError, text: str, phase: FaultPhase) -> bool:
    """Return True if the stage's definition, not the engine, caused an error."""
    if phase not in {FaultPhase.PULL, FaultPhase.CREATE, FaultPhase.START} or _HOSTS_FAULT.search(text):
        return False
    is_refused = error.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND} or _NO_PLATFORM in text
    return is_refused or bool(_STAGES_FAULT.search(text))
