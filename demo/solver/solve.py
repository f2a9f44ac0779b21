"""The untrusted stage: ask the submission all questions, and write its answers, a line of JSON each.

This program and the submission share a process, and its image has no answers: a submission that takes over the process
still has to compute. It may write any answers; the judge compares them.
"""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

SHOWN = 200  # characters of a submission's own text in an answer


def load(source: bytes) -> Any:
    """Run a submission's code, and return its function."""
    solution = ModuleType("solution")
    sys.modules["solution"] = solution
    exec(compile(source, "solution.py", "exec"), solution.__dict__)  # noqa: S102 - the purpose of this program
    return solution.evaluate  # type: ignore[attr-defined]


def answer(evaluate: Any, question: str) -> str:
    """Return a submission's answer to a question as JSON: a value, an error, or something else."""
    try:
        value = evaluate(question)
        return json.dumps({"value": value} if type(value) is int else {"other": f"{value!r}"[:SHOWN]})
    except BaseException as error:  # noqa: BLE001 - a submission's SystemExit is an answer like any other
        return json.dumps({"error": type(error).__name__, "message": str(error)[:SHOWN]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=Path, default=Path("/job"), help="the job's directory")
    job = parser.parse_args().job
    questions = json.loads((job / "questions.json").read_text())
    evaluate = load((job / "submission" / "solution.py").read_bytes())
    with (job / "answers" / "answers.jsonl").open("w") as answers:
        for question in questions:
            print(answer(evaluate, question), file=answers, flush=True)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
