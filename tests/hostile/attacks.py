"""A class half of which is hostile: what the submissions do, and what is right to come of them."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from hostile.corpus import JUDGE, SETUP

WORK = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; cp /job/submission/answer /job/out/answer"
LIMIT = 2  # seconds
FLAGS = ("--output-limit", "262144", "--job-size", "16m", "--file-size", "8m", "--pids-limit", "64")  # of graders


@dataclass(frozen=True)
class Attack:
    """What a hostile submission does, which outcomes are right, and what it scores; whether it has to be stopped."""

    script: str
    outcomes: AbstractSet[str]
    score: float | None = None
    is_endless: bool = False


ATTACKS = {
    "loop": Attack("while :; do :; done", {"timed_out"}, is_endless=True),
    # It may also run into its own limits before its time is over.
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
    """What the students are: every other one honest, the others of each kind in turn."""
    return [list(ATTACKS)[number // 2 % len(ATTACKS)] if number % 2 else "honest" for number in range(students)]


def roster(kinds: list[str]) -> list[dict[str, str]]:
    return [{"STUDENT_ID": f"s{number}", "KIND": kind} for number, kind in enumerate(kinds)]


def pipeline(image: str) -> list[dict[str, Any]]:
    """Stages of an assignment that wants ``SECRET`` in its environment."""
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
