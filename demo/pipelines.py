"""The assignment in Broadway's format: the stages, with the resources that each one may use."""

from typing import Any

COURSE = "demo"
ASSIGNMENT = "calculator"

SCRIPTS = "/opt/assignment"
STUDENT_USER = "65534"  # the user `nobody`, as which the submission runs
SEED = "autumn"  # of the tests, which are the same for every run

Json = dict[str, Any]


def config(image: str, course_server: str) -> Json:
    """Return the body of `POST /api/v1/grading_config`; `course_server` is a URL that containers reach."""
    return {
        "env": {"COURSE_SERVER": course_server},
        "pre_processing_pipeline": [stage(image, "generate_tests.py", networking=True, timeout=30)],
        "student_pipeline": [
            stage(image, "fetch_submission.py", networking=True, timeout=30),
            stage(image, "check_syntax.py", networking=False, timeout=10),
            stage(image, "run_tests.py", "--user", STUDENT_USER, networking=False, timeout=10, memory="64m"),
        ],
        "post_processing_pipeline": [stage(image, "publish_report.py", networking=True, timeout=30)],
    }


def run(students: list[str]) -> Json:
    """Return the body of `POST /api/v1/grading_run`: the environments of the run's jobs."""
    return {
        "pre_processing_env": {"SEED": SEED},
        "students_env": [{"STUDENT_ID": student} for student in students],
        "post_processing_env": {},
    }


def stage(image: str, script: str, *arguments: str, networking: bool, timeout: float, memory: str = "128m") -> Json:
    """Return a stage, which is one container; `timeout` is in seconds."""
    return {
        "image": image,
        "entrypoint": ["python3", f"{SCRIPTS}/{script}", *arguments],
        "networking": networking,
        "hostname": script.partition("_")[0],
        "timeout": timeout,
        "memory": memory,
    }
