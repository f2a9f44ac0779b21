"""The operator's limits on courses, and checks of configs and environments against them. Pure of HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from broadway.domain.assignment import (
    MAX_MEMORY,
    MEMORY,
    AssignmentConfig,
    Pipeline,
    Stage,
    is_image_name,
    longest_run,
    memory_bytes,
)
from broadway.domain.course import Course
from broadway.domain.mistakes import mistakes
from broadway.domain.run import PIPELINE_OF, Run
from broadway.domain.stage_kind import default_of
from broadway.domain.variables import MAX_VARIABLE, env_problem, reserved_problem

if TYPE_CHECKING:
    from broadway.settings.programs import IngestSettings

MAX_ID = 100  # characters of the name of an assignment, and of the id of a grader
MAX_ARGUMENTS = 1000  # of an entrypoint
MAX_ENTRYPOINT = 512 * 1024  # bytes; with MAX_ENVIRONMENT below Linux's 2 MiB for arguments and variables
MAX_HOSTNAME = 64  # characters, as in Linux
_SHOWN = 100  # characters of a refused value in a message


class RejectedError(ValueError):
    """A config or a submission that is inconsistent or exceeds a limit; the text gives the reason."""


class QuotaError(RejectedError):
    """A registration or a submission exceeds a limit of its course; the text names the limit and the number."""


class InvalidEnvError(RejectedError):
    """Variables that no program can have, or too many of them; the body counts as invalid."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits on all courses, or on one.

    ``images`` and ``privileged_courses`` are patterns with ``*`` and ``?``; an empty list allows no image, no course.
    """

    max_job_seconds: float
    privileged_courses: Sequence[str] = ()
    allow_network: bool = True
    images: Sequence[str] = ("*",)
    max_memory: str | None = None
    students: int = 20_000
    waiting_jobs: int = 50_000
    stages: int = 50
    assignments: int = 1000
    hooks: int = 100
    deliveries: int = 20_000
    stored_bytes: int = 64 * 2**30

    @classmethod
    def of(cls, settings: "IngestSettings") -> Self:
        return cls(
            max_job_seconds=settings.max_job_seconds,
            privileged_courses=_patterns(settings.privileged_courses) if settings.allow_privileged else (),
            allow_network=not settings.no_network,
            images=_patterns(settings.allow_images),
            max_memory=settings.max_memory,
            students=settings.max_students,
            waiting_jobs=settings.max_waiting_jobs,
            stages=settings.max_stages,
            assignments=settings.max_assignments,
            hooks=settings.max_hooks,
            deliveries=settings.max_deliveries,
            stored_bytes=settings.max_stored_bytes,
        )

    def of_course(self, course: Course) -> Self:
        """Return the limits of a course: its own, and the operator's for those that it has not."""
        return replace(self, **course.limits.model_dump(exclude_none=True))


def check_limits(config: AssignmentConfig, limits: Limits, *, course: str) -> None:
    """Check an assignment against the operator's limits.

    Raises:
        RejectedError: The assignment exceeds a limit; the text names the pipeline, the stage and the key.
    """
    check_env("env", config.env or {})
    for key in PIPELINE_OF.values():
        pipeline: Pipeline = getattr(config, key) or []
        if len(pipeline) > limits.stages:
            raise RejectedError(f"{key}: has {len(pipeline)} stages, {limits.stages} are allowed")
        for index, stage in enumerate(pipeline):
            check_env(f"{key}.{index}.env", stage.env)
            if problem := next(chain(_impossible(stage), _problems(stage, limits, course)), None):
                raise RejectedError(f"{key}.{index}.{problem}")
        seconds = longest_run([stage.model_dump() for stage in pipeline])
        if seconds > limits.max_job_seconds:
            raise RejectedError(
                f"{key}: its stages may run {seconds:g} s together, {limits.max_job_seconds:g} s are allowed for a job"
            )


def _problems(stage: Stage, limits: Limits, course: str) -> Iterator[str]:
    """Yield the keys of a stage that exceed a limit, each with the reason."""
    if stage.privileged and not limits.privileged_courses:
        yield "privileged: privileged containers are not allowed on this server"
    elif stage.privileged and not _matches(course, limits.privileged_courses):
        yield f"privileged: privileged containers are not allowed for {course} on this server"
    if stage.has_network and not limits.allow_network:
        yield 'networking: no stage has a network on this server; write "networking": false'
    if not _matches(stage.image, limits.images):
        yield f"image: {stage.image} is none of the images that this server allows: {', '.join(limits.images)}"
    if limits.max_memory and "memory" in stage.model_fields_set and _exceeds(stage.memory, limits.max_memory):
        yield f"memory: {stage.memory} is more than a stage may have on this server, {limits.max_memory}"


def _impossible(stage: Stage) -> Iterator[str]:
    """Yield the keys of a stage that no container engine can satisfy, each with the reason."""
    if not is_image_name(stage.image):
        yield f"image: {stage.image[:_SHOWN]!r} is no name of an image, such as registry.example.org/cs101/grader:1"
    if memory_bytes(stage.memory) >= MAX_MEMORY:
        yield f"memory: {stage.memory[:_SHOWN]} is more than any machine has"
    if len(stage.hostname) > MAX_HOSTNAME:
        yield f"hostname: has {len(stage.hostname)} characters, {MAX_HOSTNAME} are allowed"
    yield from _impossible_arguments(stage.entrypoint)


def _impossible_arguments(entrypoint: Sequence[str]) -> Iterator[str]:
    """Yield the reasons why no program can have these arguments."""
    if len(entrypoint) > MAX_ARGUMENTS:
        yield f"entrypoint: has {len(entrypoint)} parts, {MAX_ARGUMENTS} are allowed"
    sizes = [len(part.encode("utf-8", "surrogatepass")) + 1 for part in entrypoint]  # each ends with NUL
    for number, (part, size) in enumerate(zip(entrypoint, sizes, strict=True), start=1):
        if "\0" in part:
            yield f"entrypoint: its part {number} contains NUL, which no argument can"
        if size > MAX_VARIABLE:
            yield f"entrypoint: its part {number} has {size} bytes, {MAX_VARIABLE} are allowed"
    if sum(sizes) > MAX_ENTRYPOINT:
        yield f"entrypoint: has {sum(sizes)} bytes, {MAX_ENTRYPOINT} are allowed"


def check_env(where: str, env: Mapping[str, Any]) -> None:
    """Return if a program can have this environment.

    Raises:
        InvalidEnvError: No program can; the text begins with ``where``.
    """
    if problem := env_problem(env):
        raise InvalidEnvError(f"{where}: {problem}")


def check_id(what: str, name: str) -> None:
    """Return if a new object may have a name.

    Raises:
        RejectedError: The name is too long.
    """
    if len(name) > MAX_ID:
        raise RejectedError(f"{what}: its name has {len(name)} characters, {MAX_ID} are allowed")


def check_not_reserved(where: str, env: Mapping[str, Any]) -> None:
    """Return if an environment leaves Broadway's own variables alone. v1 does not ask for this: the original did not.

    Raises:
        InvalidEnvError: It sets one of them; the text begins with ``where`` and names it.
    """
    if problem := reserved_problem(env):
        raise InvalidEnvError(f"{where}: {problem}")


def allowed(config: Mapping[str, Any], limits: Limits, *, course: str) -> dict[str, Any]:
    """Return a stored config for a new run, checked again: the limits may have changed since it was registered.

    Stages without ``memory`` get the operator's limit if the default exceeds it.

    Raises:
        RejectedError: The config could not be registered now; the text is the one of registering it.
    """
    try:
        checked = AssignmentConfig.model_validate(config)
    except ValidationError as error:
        raise RejectedError(f"{mistakes(error, AssignmentConfig)[0]}; register the assignment again") from error
    check_limits(checked, limits, course=course)
    most = limits.max_memory
    if most is None or not _exceeds(MEMORY, most):
        return dict(config)
    pipelines = {key: config[key] for key in PIPELINE_OF.values() if config.get(key)}
    return {**config, **{key: [_affordable(stage, most) for stage in stages] for key, stages in pipelines.items()}}


def _affordable(stage: Mapping[str, Any], most: str) -> dict[str, Any]:
    """Return a stage; without ``memory`` it gets the operator's limit, if its default exceeds it."""
    return {**({"memory": most} if _exceeds(default_of(stage, "memory", MEMORY), most) else {}), **stage}


class NoConfigError(ValueError):
    """A run that the original started, and that therefore has no config of its own."""


def check_rerun(run: Run, limits: Limits) -> None:
    """Return if a run's config may run again now.

    Raises:
        NoConfigError: The run has no config.
        RejectedError: The config exceeds a limit.
    """
    if not run.config:
        raise NoConfigError("the run was made by the original, which kept no config with it: submit it again")
    allowed(run.config, limits, course=run.course)


def _exceeds(memory: str, most: str) -> bool:
    return memory_bytes(memory) > memory_bytes(most)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _patterns(text: str) -> Sequence[str]:
    return [pattern.strip() for pattern in text.split(",")]
