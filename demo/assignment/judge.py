"""The judge: compare the answers of a submission with those of the reference, and write the report.

The report has the form of Gradescope's results.json. Each topic is a test of two points. The last topic is shown after
the due date only, so that until then students see no total either.
"""

import argparse
import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from questions import Case, cases

LONGEST = 1024 * 1024  # bytes of the answers
LATER = "everything"  # the topic that is shown after the due date


def answers_in(file: Path) -> list[Case]:
    """Return the answers in a file that the submission may have written; those after a broken one do not count."""
    found: list[Case] = []
    try:
        with file.open("rb") as lines:
            for line in lines.read(LONGEST).splitlines():
                answer = json.loads(line)
                if not isinstance(answer, dict):
                    break
                found.append(answer)
    except (OSError, ValueError, RecursionError):
        pass
    return found


def report(drawn: list[Case], answers: list[Case]) -> dict[str, Any]:
    """Return the report about the answers to the drawn cases."""
    pairs = [(case, answers[index] if index < len(answers) else {}) for index, case in enumerate(drawn)]
    by_topic = groupby(pairs, key=lambda pair: str(pair[0]["topic"]))
    return {"tests": [_test(topic, list(own)) for topic, own in by_topic]}


def _test(topic: str, pairs: list[tuple[Case, Case]]) -> dict[str, Any]:
    wrong = list(_mistakes(pairs))
    test = {"name": topic, "score": len(pairs) - len(wrong), "max_score": len(pairs), "output": "\n".join(wrong)}
    return test | ({"visibility": "after_due_date"} if topic == LATER else {})


def _mistakes(pairs: list[tuple[Case, Case]]) -> Iterator[str]:
    """Yield a line for each wrong answer. A boolean is no number here, though it is equal to one in Python."""
    for case, answer in pairs:
        key = "error" if "error" in case else "value"
        if answer.get(key) != case[key] or type(answer.get(key)) is not type(case[key]):
            yield f"{case['expression']!r}: expected {case[key]}, got {_described(answer)}"


def _described(answer: Case) -> str:
    if "error" in answer:
        return f"{answer['error']}: {answer.get('message')}" if answer.get("message") else str(answer["error"])
    return str(answer.get("value", answer.get("other", "no answer")))[:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=Path, default=Path("/job"), help="the job's directory")
    job = parser.parse_args().job
    found = report(list(cases(os.environ["SEED"])), answers_in(job / "answers" / "answers.jsonl"))
    (job / "results.json").write_text(json.dumps(found))
    points = [test["score"] for test in found["tests"]]
    print(f"{sum(points)} points for {len(points)} topics")


if __name__ == "__main__":
    main()
