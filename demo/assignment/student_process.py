"""The process of student code: it reads expressions and writes answers, a line of JSON each.

The two arguments are the file descriptors for requests and answers. The first request has the source; its answer
reports whether the source could be loaded. This process never gets an expected value, so student code cannot pass a
test without the right answer, even if it takes over the process.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Answer = dict[str, Any]
SHOWN = 200  # characters of a student's own text in an answer


def main() -> None:
    _die_first()
    requests, answers = (os.fdopen(int(fd), mode) for fd, mode in zip(sys.argv[1:], "rw", strict=True))
    solution = ModuleType("solution")
    sys.modules["solution"] = solution
    for request in map(json.loads, requests):
        if "source" in request:
            answer = _answer(_load, solution, request["source"])
        else:
            answer = _answer(_evaluate, solution, request["expression"])
        _flush()
        print(json.dumps(answer), file=answers, flush=True)


def _die_first() -> None:
    """Let the kernel kill this process first when the container's memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _load(solution: ModuleType, source: str) -> Answer:
    exec(compile(source, "solution.py", "exec"), solution.__dict__)  # noqa: S102 - the purpose of this process
    if not callable(getattr(solution, "evaluate", None)):
        return {"error": "NameError", "message": "there is no function evaluate"}
    return {"loaded": True}


def _evaluate(solution: ModuleType, expression: str) -> Answer:
    value = solution.evaluate(expression)
    if type(value) is int:
        return {"value": value}
    return {"other": f"{value!r} of type {type(value).__name__}"[:SHOWN]}


def _answer(step: Callable[[ModuleType, str], Answer], solution: ModuleType, text: str) -> Answer:
    try:
        return step(solution, text)
    except BaseException as error:  # noqa: BLE001 - a student's SystemExit is an answer like any other
        if step is _load:
            traceback.print_exc()
        return {"error": type(error).__name__, "message": str(error)[:SHOWN]}


def _flush() -> None:
    """Flush the student's output, so that it is in the log next to its test."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()


if __name__ == "__main__":
    main()
