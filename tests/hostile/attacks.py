"""A class whose every other submission is hostile: the submissions, and the correct outcomes."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from hostile.corpus import JUDGE, SETUP

WORK = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; cp /job/submission/answer /job/out/answer"
LIMIT = 2  # seconds
FLAGS = ("--output-limit", "262144", "--job-size", "16m", "--file-size", "8m", "--pids-limit", "64")  # of graders


@dataclass(frozen=True)
class Attack:
    """A hostile submission: its script, the correct outcomes, its score, and whether it must be stopped."""

    script: str
    outcomes: AbstractSet[str]
    score: float | None = None
    is_endless: bool = False


ATTACKS = {
    "loop": Attack("while :; do :; done", {"timed_out"}, is_endless=True),
    # It may also reach its own limits before its time limit.
    "fork": Attack(
        "bomb() { bomb | bomb & }; bomb; sleep 100", {"timed_out", "failed", "out_of_memory"}, is_endless=True
    ),
    "flood": Attack("yes", {"output_limit"}),
    "fill": Attack(
        "while :; do dd if=/dev/zero of=/job/out/$$.$((i=i+1)) bs=1M count=4 2>/dev/null || exit 1; done", {"failed"}
    ),
    "forge": Attack(
        "echo '{\"score\": 1}' >/job/out/results.json; ln -s /job/tests/expected /job/out/answer; exit 0",
        {"succeeded"},
        score=0.0,
    ),
    "daemon": Attack("(setsid sleep 1000 &); exit 3", {"failed"}),
}


def mixed(students: int) -> list[str]:
    """Return the kinds of the students: every other one is honest, the rest cycle through the attacks."""
    return [list(ATTACKS)[number // 2 % len(ATTACKS)] if number % 2 else "honest" for number in range(students)]


def roster(kinds: list[str]) -> list[dict[str, str]]:
    return [{"STUDENT_ID": f"s{number}", "KIND": kind} for number, kind in enumerate(kinds)]


def pipeline(image: str) -> list[dict[str, Any]]:
    """Return the stages of an assignment that needs ``SECRET`` in its environment."""
    common = {"image": image, "memory": "64m", "timeout": 30, "networking": False}
    scripts = {name: attack.script for name, attack in ATTACKS.items()} | {"honest": WORK}
    cases = "".join(f"{name}) {script} ;;\n" for name, script in scripts.items())
    script = f'case "$KIND" in\n{cases}esac'
    untrusted = {"untrusted": True, "read": ["submission"], "write": ["out"], "inherit": ["KIND"], "timeout": LIMIT}
    return [
        {**common, "entrypoint": ["sh", "-c", SETUP]},
        {"image": image, "memory": "64m", "entrypoint": ["sh", "-c", script], **untrusted},
        {**common, "entrypoint": ["sh", "-c", JUDGE], "results": "results.json"},
    ]
