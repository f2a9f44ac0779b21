"""A student's job, second stage: compile the submission, without running it."""

import sys
import traceback
from pathlib import Path

SUBMISSION = Path("/job/solution.py")


def main() -> int:
    try:
        compile(SUBMISSION.read_bytes(), SUBMISSION.name, "exec")
    except (SyntaxError, ValueError) as error:
        print("".join(traceback.format_exception_only(error)).rstrip())
        print("the submission does not compile")
        return 1
    print("the submission compiles")
    return 0


if __name__ == "__main__":
    sys.exit(main())
