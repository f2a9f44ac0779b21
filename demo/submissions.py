"""The 30 submissions of the class, and what each of them should come to."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "submissions"


@dataclass(frozen=True)
class Expected:
    """What should become of a submission: an outcome of Broadway's, and what the submission does."""

    outcome: str
    why: str


def expected() -> dict[str, Expected]:
    """By student, in the order of the roster."""
    return {student: Expected(**each) for student, each in json.loads((FOLDER / "expected.json").read_text()).items()}


def source(student: str) -> bytes:
    """What a student has handed in."""
    return (FOLDER / student / "solution.py").read_bytes()
