"""A student's job, last stage: run the submission on the tests; exit 0 only if it passes all of them.

The submission's output goes to the log unchanged and without a limit here: the grading service limits output and time.
Nothing here ends a submission that hangs.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

Case = dict[str, Any]

STUDENT_PROCESS = Path(__file__).with_name("student_process.py")
LONGEST_ANSWER = 64 * 1024  # bytes
GRACE = 0.3  # seconds for a process to end by itself, and for the engine to notice that memory ran out


class EndedError(Exception):
    """The submission's process has ended or does not keep to the protocol."""


class Submission:
    """A submission in a separate process."""

    def __init__(self, process: subprocess.Popen[bytes], requests: int, answers: int) -> None:
        self._process = process
        self._requests = os.fdopen(requests, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")

    @classmethod
    @contextlib.contextmanager
    def start(cls, user: int | None) -> Iterator[Self]:
        """Start the process; as another user, if one is given, so that it cannot read this process's data."""
        their_requests, requests = os.pipe()
        answers, their_answers = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-I", str(STUDENT_PROCESS), str(their_requests), str(their_answers)],
            stdin=subprocess.DEVNULL,
            pass_fds=(their_requests, their_answers),
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
        os.close(their_requests)
        os.close(their_answers)
        submission = cls(process, requests, answers)
        try:
            yield submission
        finally:
            submission._end()

    def load(self, source: str) -> None:
        """Run the submission's code.

        Raises:
            EndedError: The code cannot be loaded, or its process has ended.
        """
        answer = self.ask({"source": source})
        if "loaded" not in answer:
            raise EndedError(f"the submission cannot be loaded: {describe(answer)}")

    def ask(self, request: dict[str, str]) -> Case:
        """Send a request and wait for its answer, without a time limit.

        Raises:
            EndedError: There is no valid answer.
        """
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise EndedError(self._end_reason()) from None
        line = self._answers.readline(LONGEST_ANSWER)
        if not line:
            raise EndedError(self._end_reason())
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EndedError("the submission wrote into the answers")
        return answer

    def _end_reason(self) -> str:
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "the submission closed its answers"
        if status >= 0:
            return f"the submission ended by itself, with status {status}"
        if status == -signal.SIGKILL:
            time.sleep(GRACE)
        return f"the submission was ended by {signal.Signals(-status).name}"

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if os.getpid() == 1:  # in a container, where every other process is the submission's
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        self._process.wait()
        self._requests.close()
        self._answers.close()


def run(source: str, tests: list[Case], user: int | None) -> int:
    """Run all tests, print a line for each, and return the number of passed ones."""
    passed = 0
    with Submission.start(user) as submission:
        try:
            submission.load(source)
            for test in tests:
                passed += check(test, submission.ask({"expression": test["expression"]}))
        except EndedError as end:
            print(end, flush=True)
    return passed


def check(test: Case, answer: Case) -> bool:
    """Compare an answer with a test, print a line, and return whether the answer is right."""
    key = "error" if "error" in test else "value"
    right = answer.get(key) == test[key] and type(answer.get(key)) is type(test[key])
    line = f"{'ok  ' if right else 'FAIL'} {test['topic']}: {test['expression']!r}"
    print(line if right else f"{line}: expected {describe(test)}, got {describe(answer)}", flush=True)
    return right


def describe(answer: Case) -> str:
    """Return an answer, or an expected one, as text for the log."""
    if "error" in answer:
        return f"{answer['error']}: {answer['message']}" if answer.get("message") else str(answer["error"])
    return str(answer.get("value", answer.get("other")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=Path, default=Path("/job"), help="directory of solution.py and tests.json")
    parser.add_argument("--user", type=int, help="the user id for student code")
    options = parser.parse_args()
    source = (options.job / "solution.py").read_text()
    tests = json.loads((options.job / "tests.json").read_text())
    (options.job / "tests.json").unlink()  # before any student code runs
    passed = run(source, tests, options.user)
    print(f"{passed} of {len(tests)} tests passed", flush=True)
    return 0 if passed == len(tests) else 1


if __name__ == "__main__":
    sys.exit(main())
