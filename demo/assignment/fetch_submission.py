"""A student's job, first stage: fetch the submission and the run's tests into /job."""

import os
from pathlib import Path

import course

JOB = Path("/job")


def main() -> None:
    student = os.environ["STUDENT_ID"]
    submission = course.get(f"/submissions/{student}")
    (JOB / "solution.py").write_bytes(submission)
    tests = JOB / "tests.json"
    tests.touch(mode=0o600)
    tests.write_bytes(course.get(course.run_path("tests")))
    print(f"{student}: {len(submission)} bytes, {len(submission.splitlines())} lines")


if __name__ == "__main__":
    main()
