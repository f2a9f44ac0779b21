"""The submissions of the class for both assignments, with their expected results."""

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CALCULATOR = HERE / "submissions"  # 30, a directory each
WORDS = HERE / "words" / "submissions"  # some of the same students

Files = list[tuple[str, Path]]


@dataclass(frozen=True)
class Expected:
    """The expected outcome and score of a submission, with a description of it; no score without a report."""

    outcome: str
    score: int | None
    why: str


def expected(folder: Path = CALCULATOR) -> dict[str, Expected]:
    """Return the expectations by student, in the order of the roster."""
    return {student: Expected(**each) for student, each in json.loads((folder / "expected.json").read_text()).items()}


def files(student: str, folder: Path = CALCULATOR) -> Files:
    """Return the files that a student hands in, with their names in the submission."""
    return [(path.name, path) for path in sorted((folder / student).iterdir())]
