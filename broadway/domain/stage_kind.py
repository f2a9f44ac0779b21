"""Kinds of stages, which run autograders of other systems, unmodified, as the harness of that system does. Pure.

A harness starts one program in one directory, which has the submission's files, facts about the submission, and a
directory for the results.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from broadway.domain.results_setting import ResultsSetting

KindName = Literal["gradescope", "prairielearn"]
KIND = "kind"  # the key of a stage

COURSE, ASSIGNMENT = "BROADWAY_COURSE", "BROADWAY_ASSIGNMENT"  # variables of stages with a kind
STUDENT, SUBMITTED_AT, JOB = "BROADWAY_STUDENT", "BROADWAY_SUBMITTED_AT", "GRADING_JOB_ID"

_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Harness:
    """The surroundings of an autograder.

    Args:
        directory: The directory in which it starts; the other paths are below it.
        submission: The directory with the files of the submission, which it may change.
        facts: The file with facts about the submission.
        results: The results file, which alone decides about the report, and its format.
        defaults: The defaults of a stage's keys that differ from those of other stages.
    """

    directory: str
    submission: str
    facts: str
    results: ResultsSetting
    defaults: Mapping[str, Any]

    @property
    def results_directory(self) -> str:
        """The directory of the results file."""
        return (self.results.path or "").rpartition("/")[0]


HARNESSES: Mapping[str, Harness] = {
    "gradescope": Harness(
        directory="/autograder",
        submission="submission",
        facts="submission_metadata.json",
        results=ResultsSetting(format="gradescope", path="results/results.json"),
        defaults={
            "entrypoint": ["/autograder/run_autograder"],
            "networking": False,
            "timeout": 600.0,
            "memory": "768m",
            "tty": False,
        },
    ),
    "prairielearn": Harness(
        directory="/grade",
        submission="student",
        facts="data/data.json",
        results=ResultsSetting(format="prairielearn", path="results/results.json"),
        defaults={"networking": False, "tty": False},
    ),
}


def harness_of(stage: Mapping[str, Any]) -> Harness | None:
    """Return the harness of a stage, as posted or as it is validated; None for an ordinary stage."""
    kind = stage.get(KIND)
    return HARNESSES.get(kind) if isinstance(kind, str) else None


def default_of(stage: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    """Return the default of a key of a stage; ``otherwise`` is that of ordinary stages."""
    harness = harness_of(stage)
    return harness.defaults.get(key, otherwise) if harness else otherwise


def with_place(stages: Sequence[dict[str, Any]], *, course: str, assignment: str) -> list[dict[str, Any]]:
    """Return prepared stages, with the names of the course and the assignment for those that have a kind."""
    own = {COURSE: course, ASSIGNMENT: assignment}
    return [{**stage, "env": {**stage["env"], **own}} if stage.get(KIND) else stage for stage in stages]


def facts(kind: KindName, env: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an autograder can read about a submission, from the variables of its stage."""
    return _metadata(env) if kind == "gradescope" else _data(env)


def _metadata(env: Mapping[str, Any]) -> dict[str, Any]:
    """Return Gradescope's ``submission_metadata.json``. Numbers of Gradescope's own are made from names."""
    student, assignment = str(env.get(STUDENT, "")), str(env.get(ASSIGNMENT, ""))
    course = str(env.get(COURSE, ""))
    number = _number("assignment", course, assignment)
    return {
        "id": _number("job", str(env.get(JOB, ""))),
        "created_at": _time(env),
        "assignment_id": number,
        "assignment": {
            "id": number,
            "course_id": _number("course", course),
            "title": assignment,
            "due_date": None,
            "late_due_date": None,
            "release_date": None,
            "group_size": None,
            "group_submission": False,
            "total_points": "0.0",
        },
        "submission_method": "upload",
        "users": [{"email": student, "id": _number("student", course, student), "name": student}] if student else [],
        "previous_submissions": [],
    }


def _data(env: Mapping[str, Any]) -> dict[str, Any]:
    """Return PrairieLearn's ``data.json`` of a question without parameters, whose answers are files."""
    return {
        "params": {},
        "correct_answers": {},
        "submitted_answers": {},
        "raw_submitted_answers": {},
        "format_errors": {},
        "partial_scores": {},
        "score": 0,
        "feedback": {},
        "options": {},
        "variant_seed": _number("job", str(env.get(JOB, ""))),
        "gradable": True,
    }


def _time(env: Mapping[str, Any]) -> str:
    """Return the time of the submission, as Gradescope writes it."""
    try:
        at = datetime.fromisoformat(str(env.get(SUBMITTED_AT, "")))
    except ValueError:
        at = _UNKNOWN_TIME
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _number(*parts: str) -> int:
    """Return a number of 31 bits that stands for a name, the same each time."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4]) >> 1
