"""The two assignments in Broadway's format: their pipelines, and their settings."""

from typing import Any

from demo.image import Images

COURSE = "demo"
CALCULATOR, WORDS = "calculator", "words"

SCRIPTS = "/opt/scripts"
SEED = "autumn"  # of the questions, which are the same for every run
POINTS = {CALCULATOR: 20, WORDS: 10}

Json = dict[str, Any]


def calculator(images: Images) -> Json:
    """Return the pipelines of the exercise: the questions, the submission's answers, and the judge's report."""
    return {
        "env": {"SEED": SEED},
        "student_pipeline": [
            {**_stage(images.judge, "questions.py"), "timeout": 10, "memory": "128m"},
            {
                **_stage(images.solver, "solve.py"),
                "timeout": 10,
                "memory": "64m",
                "untrusted": True,
                "read": ["questions.json", "submission"],
                "write": ["answers"],
            },
            {
                **_stage(images.judge, "judge.py"),
                "timeout": 10,
                "memory": "128m",
                "networking": False,
                "results": {"format": "gradescope", "path": "results.json"},
                "artifacts": ["answers/*.jsonl"],
            },
        ],
    }


def calculator_settings() -> Json:
    """Return the settings of the exercise: submissions wait for the run for the roster."""
    return {
        "points": POINTS[CALCULATOR],
        "files": {"required": ["solution.py"], "allowed": ["*.py", "*.md"], "max_bytes": 1024 * 1024},
        "starts": "with_roster",
    }


def words(image: str) -> Json:
    """Return the pipelines of the second exercise, whose image is a Gradescope autograder."""
    return {"student_pipeline": [{"image": image, "kind": "gradescope", "timeout": 60}]}


def words_settings() -> Json:
    """Return the settings of the second exercise: each submission is graded when it arrives."""
    return {"points": POINTS[WORDS], "files": {"required": ["words.py"]}}


def _stage(image: str, script: str) -> Json:
    """Return the keys that the stages share; each stage is one container."""
    name = script.partition(".")[0]
    return {"image": image, "entrypoint": ["python3", f"{SCRIPTS}/{script}"], "hostname": name, "networking": False}
