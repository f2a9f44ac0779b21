"""The 30 submissions of the class, with their expected outcomes."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "submissions"


@dataclass(frozen=True)
class Expected:
    """The expected outcome of a submission, with a description of the submission."""

    outcome: str
    why: str


def expected() -> dict[str, Expected]:
    """Return the expectations by student, in the order of the roster."""
    return {student: Expected(**each) for student, each in json.loads((FOLDER / "expected.json").read_text()).items()}


def source(student: str) -> bytes:
    """Return a student's submission."""
    return (FOLDER / student / "solution.py").read_bytes()
