"""What the operator lets courses ask for, and what a course asks for beyond it. Pure of HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, Self

from pydantic import ValidationError

from broadway.domain.assignment import (
    MAX_MEMORY,
    AssignmentConfig,
    Pipeline,
    Stage,
    is_image_name,
    longest_run,
    memory_bytes,
)
from broadway.domain.run import PIPELINE_OF, Run
from broadway.settings.programs import IngestSettings

# Far above what anybody has needed, and about what Linux lets a program start with.
MAX_VARIABLES = 1000
MAX_CHARACTERS = 1024 * 1024  # of an environment's names and values together
MAX_HOSTNAME = 64  # characters, as Linux has it
_SHOWN = 100  # characters of what is refused


class RejectedError(ValueError):
    """A config or a submission that makes no sense, or asks for too much; the text says why."""


class InvalidEnvError(RejectedError):
    """Variables that no program could have, or too many: the body is no config or submission."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator lets courses ask for.

    ``images`` and ``privileged_courses`` are patterns with ``*`` and ``?``; without any, no course may.
    """

    max_job_seconds: float
    privileged_courses: Sequence[str] = ()
    allow_network: bool = True
    images: Sequence[str] = ("*",)
    max_memory: str | None = None

    @classmethod
    def of(cls, settings: IngestSettings) -> Self:
        return cls(
            max_job_seconds=settings.max_job_seconds,
            privileged_courses=_patterns(settings.privileged_courses) if settings.allow_privileged else (),
            allow_network=not settings.no_network,
            images=_patterns(settings.allow_images),
            max_memory=settings.max_memory,
        )


def check_limits(config: AssignmentConfig, limits: Limits, *, course: str) -> None:
    """Compare an assignment with what the operator allows.

    Raises:
        RejectedError: It asks for more; the text names the pipeline, the stage and the key.
    """
    check_env("env", config.env or {})
    for key in PIPELINE_OF.values():
        pipeline: Pipeline = getattr(config, key) or []
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
    """The keys of a stage that ask for too much, and why."""
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
    """The keys of a stage that no engine could give it, whatever is allowed, and why."""
    if not is_image_name(stage.image):
        yield f"image: {stage.image[:_SHOWN]!r} is no name of an image, such as registry.example.org/cs101/grader:1"
    if memory_bytes(stage.memory) >= MAX_MEMORY:
        yield f"memory: {stage.memory[:_SHOWN]} is more than any machine has"
    if len(stage.hostname) > MAX_HOSTNAME:
        yield f"hostname: has {len(stage.hostname)} characters, {MAX_HOSTNAME} are allowed"


def check_env(where: str, env: Mapping[str, Any]) -> None:
    """Make sure that a program could have such an environment.

    Raises:
        InvalidEnvError: It could not; the text begins with ``where``.
    """
    if len(env) > MAX_VARIABLES:
        raise InvalidEnvError(f"{where}: has {len(env)} variables, {MAX_VARIABLES} are allowed")
    for name in env:
        if not name or "=" in name or "\0" in name:
            raise InvalidEnvError(
                f"{where}: {name[:100]!r} cannot name a variable: expected no =, no NUL, and not nothing"
            )
    characters = sum(len(name) + len(str(value)) for name, value in env.items())
    if characters > MAX_CHARACTERS:
        raise InvalidEnvError(f"{where}: has {characters} characters, {MAX_CHARACTERS} are allowed")


def allowed(config: Mapping[str, Any], limits: Limits, *, course: str) -> dict[str, Any]:
    """A config that is stored, as a run may use it now: the limits may be others than when it was registered.

    Stages that name no memory get what the operator allows, whatever graders would give them.

    Raises:
        RejectedError: It could not be registered any more; the text is what registering it would say.
    """
    try:
        checked = AssignmentConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RejectedError(f"{where}: {first['msg']}; register the assignment again") from error
    check_limits(checked, limits, course=course)
    if limits.max_memory is None or not _exceeds(Stage.model_fields["memory"].default, limits.max_memory):
        return dict(config)
    pipelines = {key: config[key] for key in PIPELINE_OF.values() if config.get(key)}
    default = {"memory": limits.max_memory}
    return {**config, **{key: [{**default, **stage} for stage in stages] for key, stages in pipelines.items()}}


class NoConfigError(ValueError):
    """A run without a config of its own, which the original made."""


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
