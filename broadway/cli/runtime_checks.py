"""Checks of the runtime on a grader's host, with the decision of `broadway up` and of `--runtime auto`."""

from collections.abc import Sequence
from pathlib import Path

from broadway.cli.findings import Finding, ok, problem, warning
from broadway.settings.grader import GraderSettings

_OWN = {None, "oci", "auto", "docker"}  # the values of --runtime that name no runtime of an engine


def of_engine(runtime: str | None) -> str | None:
    """Return a grader's runtime if it is one that its engine must have by that name."""
    return None if runtime in _OWN else runtime


async def runtime_of(settings: GraderSettings) -> tuple[Sequence[Finding], bool]:
    """Return the findings on a grader's runtime, and whether it needs an engine."""
    if settings.runtime not in {"oci", "auto"}:
        return [], True
    from broadway.grader.oci.choice import OCI, choose  # noqa: PLC0415 - hosts without graders may not have them
    from broadway.grader.oci.probe import probe  # noqa: PLC0415
    from broadway.grader.ports import ContainerError  # noqa: PLC0415

    try:
        chosen = choose(settings.runtime, await probe(settings.oci_program, settings.work_dir.absolute()))
    except ContainerError as error:
        return [problem("engine", str(error), "install or allow what is missing, or change --runtime")], False
    has_images = settings.oci_layout is not None or settings.images.source not in {"engine", "docker-daemon:"}
    return [ok("engine", f"runtime: {chosen}")], chosen.runtime != OCI or not has_images


async def choice_of_up() -> Finding:
    """Return the finding with the runtime that `broadway up` chooses on this host, and the reason."""
    try:
        from broadway.grader.oci.choice import AUTO, choose  # noqa: PLC0415 - hosts without graders may not have them
        from broadway.grader.oci.probe import probe  # noqa: PLC0415
    except ImportError:
        return warning("runtime", "this host cannot run graders", "only hosts with graders need the extra `grader`")
    return ok("runtime", f"`broadway up` has here the runtime: {choose(AUTO, await probe('crun', Path.cwd()))}")
