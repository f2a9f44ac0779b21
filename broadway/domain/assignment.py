"""Assignments: the pipelines that a course registers, and the environments of their stages."""

import re
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from broadway.domain.artifacts import ArtifactPatterns
from broadway.domain.bounds import MAX_STAGES, shallow
from broadway.domain.results_setting import ResultsSetting
from broadway.domain.stage_kind import HARNESSES, KindName, default_of

MAX_KEYS = 10_000  # of an object; what a program can have is less, see `variables`
MAX_PARTS = 10_000  # of an entrypoint, as above

Env = Annotated[dict[str, Any], Field(max_length=MAX_KEYS), AfterValidator(shallow)]

ALLOWANCE = timedelta(minutes=15)  # besides the time limits of a job's stages, for pulling images and for reporting

# Zero is excluded: for engines it means no limit.
Memory = Annotated[str, Field(pattern=r"^[0-9]*[1-9][0-9]*(\.[0-9]+)?[kKmMgGtT]?[bB]?$", max_length=1000)]


def _cpus(text: str) -> str:
    """Return numbers and ranges of CPUs if they are well-formed; their existence depends on the host."""
    ranges = [part.split("-", 1) for part in text.split(",")] if text else []
    if not all(re.fullmatch("[0-9]{1,5}", number) for part in ranges for number in part):
        raise ValueError("should be numbers of CPUs and ranges of them, as in 0-3,7")
    for first, last in (map(int, part) for part in ranges if len(part) > 1):
        if last < first:
            raise ValueError(f"{first}-{last} is no range of CPUs: its end is before its start")
    return text


_IMAGE_NAME = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._/:@-]*")
_LONGEST_NAME = 512  # characters, with a registry, a tag and a digest
MAX_MEMORY = 2**60  # bytes; more than any machine has, and within the range of engines
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory_bytes(text: str) -> float:
    """Return a stage's ``memory`` in bytes, ``MAX_MEMORY`` at most."""
    text = text.lower()
    if text.endswith("b") and text[-2:-1] in _UNITS:
        text = text[:-1]
    return min(MAX_MEMORY, float(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else float(text))


# A path below /job, whose names have no meaning for shells, as options of programs, or as parent directories.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
JobPath = Annotated[str, Field(pattern=rf"^{_NAME}(/{_NAME}){{0,7}}$")]
JobPaths = Annotated[list[JobPath], Field(max_length=16)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


def is_image_name(text: str) -> bool:
    """Return whether a text is a well-formed image name; the image may not exist."""
    return len(text) <= _LONGEST_NAME and _IMAGE_NAME.fullmatch(text) is not None


MAX_WORD = 64 * 1024  # characters of a stage's texts; stricter checks come at registration, with texts of their own
MAX_TIMEOUT = 1e308  # seconds, as above
TIMEOUT, MEMORY = 30.0, "2g"  # the defaults of stages without a kind
Argument = Annotated[str, Field(max_length=16 * MAX_WORD)]


def _form(results: object) -> str:
    return "(format)" if isinstance(results, dict | ResultsSetting) else "(path)"


class _AnyOf:
    """Describes a union by ``anyOf`` in JSON schemas, as every other union, though it has a discriminator."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": handler(core)["oneOf"]}


# Tags in parentheses are left out of the places of mistakes.
Results = Annotated[
    Annotated[JobPath, Tag("(path)")] | Annotated[ResultsSetting, Tag("(format)")], Discriminator(_form), _AnyOf()
]


class Stage(BaseModel):
    """One container of a pipeline, with the original's keys, types and defaults (``timeout`` in seconds), and our own.

    An ``untrusted`` stage runs a student's code. It sees only the paths below ``/job`` that ``read`` and ``write``
    name, and only the variables of the assignment and the roster that ``inherit`` names. ``results`` is the file below
    ``/job`` in which a trusted stage leaves scores, as a path or with its format, and ``artifacts`` are patterns of
    files there that are kept for staff. With ``tty`` its output is a terminal, so that programs write each line at
    once; without it the output is two pipes. A stage with a ``kind`` runs an autograder of another system: it has
    results of its own, and does not see ``/job``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Annotated[str, Field(min_length=1, max_length=MAX_WORD)]
    env: Env = {}
    entrypoint: Annotated[list[Argument], Field(strict=False, max_length=MAX_PARTS)] = []
    networking: bool = True
    privileged: bool = False
    hostname: Annotated[str, Field(max_length=MAX_WORD)] = "container"
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT, allow_inf_nan=False)] = TIMEOUT
    cpuset_cpus: Annotated[str, Field(max_length=MAX_WORD), AfterValidator(_cpus)] = ""
    memory: Memory = MEMORY
    logs: bool = True
    tty: bool = True
    untrusted: bool = False
    read: JobPaths = []
    write: JobPaths = []
    inherit: Annotated[list[VariableName], Field(max_length=64)] = []
    results: Results | None = None
    artifacts: ArtifactPatterns = []
    kind: KindName | None = Field(
        default=None, description="the system whose autograder the stage runs: compatible, not tamper-proof"
    )

    @model_validator(mode="after")
    def _as_its_kind(self) -> Self:
        """Give a stage the defaults of its kind, which do not count as posted."""
        if self.kind is None:
            return self
        if self.untrusted or self.results:
            key, why = ("untrusted", "is a trusted one") if self.untrusted else ("results", "has results of its own")
            raise ValueError(f"{key}: a stage of kind {self.kind} {why}")
        if self.artifacts:
            raise ValueError(f"artifacts: a stage of kind {self.kind} does not see /job")
        own = HARNESSES[self.kind].defaults
        self.__dict__.update({key: copy(value) for key, value in own.items() if key not in self.model_fields_set})
        return self

    @model_validator(mode="after")
    def _fits_its_profile(self) -> Self:
        if self.untrusted:
            if self.networking and "networking" in self.model_fields_set:
                raise ValueError("networking: an untrusted stage has no network")
            if self.privileged:
                raise ValueError("privileged: an untrusted stage has no privileges")
            if self.results:
                raise ValueError("results: only a trusted stage may say what a submission scores")
            if self.artifacts:
                raise ValueError("artifacts: only a trusted stage may keep files; a later one can name this one's")
            _check_apart([*self.read, *self.write], "read, write")
            return self
        for key in ("read", "write", "inherit"):
            if getattr(self, key):
                raise ValueError(f'{key}: only for a stage with "untrusted": true; a trusted one sees everything')
        return self

    @property
    def results_setting(self) -> JobPath | ResultsSetting | None:
        """The place of the results: below ``/job``, or below the directory of its kind."""
        return HARNESSES[self.kind].results if self.kind else self.results

    @property
    def has_network(self) -> bool:
        """True if the container gets a network."""
        return self.networking and not self.untrusted

    @field_validator("timeout", mode="wrap")
    @classmethod
    def _number_as_posted(cls, value: object, check: ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, bool):
            raise ValueError("should be a number")  # noqa: TRY004 - pydantic wants a ValueError
        check(value)
        return value


def _check_apart(paths: Sequence[str], where: str) -> None:
    """Refuse paths of which one equals or contains another one."""
    for one, other in pairwise(sorted(f"{path}/" for path in paths)):
        if other.startswith(one):
            raise ValueError(f"{where}: {one[:-1]} and {other[:-1]} overlap")


def _check_paths(pipeline: list[Stage]) -> list[Stage]:
    """Return a pipeline if its writable paths do not overlap with its other paths: each of them is its own mount."""
    writable = sorted({path for stage in pipeline for path in stage.write})
    _check_apart(writable, "write")
    for path in {path for stage in pipeline for path in stage.read} - set(writable):
        _check_apart([path, *writable], "read, write")
    for setting in [stage.results for stage in pipeline if stage.results]:
        if isinstance(setting, str):
            _check_apart([setting, *writable], "results, write")
        elif other := setting.may_lie_in(writable):
            raise ValueError(f"results, write: {setting.path} and {other} overlap")
    return pipeline


Pipeline = Annotated[list[Stage], Field(max_length=MAX_STAGES), AfterValidator(_check_paths)]


class AssignmentConfig(BaseModel):
    """The config of an assignment: three pipelines and their shared environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    student_pipeline: Annotated[list[Stage], Field(min_length=1, max_length=MAX_STAGES), AfterValidator(_check_paths)]
    pre_processing_pipeline: Pipeline | None = None
    post_processing_pipeline: Pipeline | None = None
    env: Env | None = None

    def as_posted(self) -> dict[str, Any]:
        """Return the four keys, absent ones as None, with stages exactly as posted."""
        posted = self.model_dump(exclude_unset=True)
        return {key: posted.get(key) for key in type(self).model_fields}


def stage_env(
    *,
    shared: Mapping[str, Any] | None,
    stage: Mapping[str, Any],
    job: Mapping[str, Any],
    run_id: str,
    job_id: str,
    only: Collection[str] | None = None,
) -> Env:
    """Return the environment of one stage of one job; a later source takes precedence.

    The sources are the assignment's ``env``, ``GRADING_RUN_ID``, the stage's own variables, the run's entry for this
    job, and ``GRADING_JOB_ID``. ``only`` restricts the variables of the assignment and of the job's entry to its names.
    """
    if only is not None:
        shared = {name: value for name, value in (shared or {}).items() if name in only}
        job = {name: value for name, value in job.items() if name in only}
    return {**(shared or {}), "GRADING_RUN_ID": run_id, **stage, **job, "GRADING_JOB_ID": job_id}


def prepare_stages(
    pipeline: list[dict[str, Any]],
    *,
    shared: Mapping[str, Any] | None,
    job_env: Mapping[str, Any],
    run_id: str,
    job_id: str,
) -> list[dict[str, Any]]:
    """Return a job's own copy of a pipeline, with the merged environment in every stage."""
    return [
        {
            **stage,
            "env": stage_env(
                shared=shared,
                stage=stage.get("env") or {},
                job=job_env,
                run_id=run_id,
                job_id=job_id,
                only=stage.get("inherit", []) if stage.get("untrusted") else None,
            ),
        }
        for stage in pipeline
    ]


def longest_run(stages: Sequence[Mapping[str, Any]]) -> float:
    """Return the sum of the stages' time limits, in seconds."""
    return sum(float(stage.get("timeout", default_of(stage, "timeout", TIMEOUT))) for stage in stages)
