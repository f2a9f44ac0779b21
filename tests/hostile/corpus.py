"""The corpus: a directory per case, with the submission and, in ``case.toml``, the expected result.

``about`` describes the attack, ``outcome`` lists the correct outcomes (with ``runsc = true`` on gVisor too, where
``outcome_runsc`` adds others; ``outcome_busy`` adds those of a busy machine), ``reason`` and ``log`` are texts that
these must contain, ``score`` is the expected score, ``kept`` has the artifacts, and ``left_out`` must match the note
about others. ``pipeline`` is *stage* (the submission in an untrusted stage, the default), *judged* (and a trusted stage
after it), *class* (and one before it, as in the docs), *copied* (and a judge that copies a results file from it),
*quoted* (and a judge that copies a comment from it, between quotes), *kept* (and a trusted stage that keeps its files
as artifacts), *leaves* (a stage of the standard profile that leaves artifacts in ``/job/kept``), *planted* (one that
plants a results file), *executed* (one that makes ``/job/a.out``, and one that executes it) or a kind of stage (the
submission with all rights of an autograder of that kind, between a stage that prepares ``/job`` and one that finds it
unchanged). ``format`` is that of the judge's results. ``$CANARY`` is the path of a file of the host. A script exits
with 66 if its attack succeeds.

The limits are a grader's own, except those in bytes: a case that reaches one should not take long.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hostile.configs import HERE as CONFIGS
from pydantic import BaseModel, ConfigDict

from broadway.domain.assignment import AssignmentConfig, prepare_stages
from broadway.domain.job import Outcome
from broadway.domain.stage_kind import HARNESSES, KindName
from broadway.grader.ports import Limits, Size

HERE = Path(__file__).parent
LIMITS = Limits(output=256 * 1024, file_size=8 * 1024 * 1024, disk=32 * 1024 * 1024)
SIZE = Size(size=16 * 1024 * 1024)
SECRET = "hunter2"
ANSWER = "42"
JUDGE = """
find /job/out \\( -type l -o -type p -o -type s -o -type b -o -type c -o -perm /6000 \\) | grep -q . && exit 66
[ "$SECRET" = hunter2 ] || exit 67
score=0
cmp -s /job/out/answer /job/tests/expected && score=1
echo "{\\"score\\": $score, \\"max_score\\": 1}" >/job/results.json || exit 1
"""
COPIES = "cat /job/out/results.json >/job/results.json"
QUOTES = """
{ printf '{"score": 0, "max_score": 1, "feedback": "'; cat /job/out/feedback; printf '"}'; } >/job/results.json
"""
SETUP = f"""
mkdir /job/submission /job/tests
echo {ANSWER} >/job/submission/answer
echo {ANSWER} >/job/tests/expected
chmod 700 /job/tests
echo 'exit 0' >/job/judge.sh
"""
UNCHANGED = """
[ "$(ls /job)" = "judge.sh
submission
tests" ] || exit 66
grep -q 42 /job/tests/expected || exit 66
[ "$(cat /job/judge.sh)" = "exit 0" ] || exit 66
"""
JUDGES = {"copied": COPIES, "quoted": QUOTES}


class Case(BaseModel):
    """One case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    submission: str
    interpreter: Sequence[str]
    about: str
    outcome: Sequence[Outcome]
    outcome_runsc: Sequence[Outcome] = ()
    outcome_busy: Sequence[Outcome] = ()
    reason: str = ""
    log: str = ""
    score: float | None = None
    kept: Sequence[str] = ()
    left_out: str = ""
    runsc: bool = False
    pipeline: Literal[
        "stage", "judged", "class", "copied", "quoted", "planted", "leaves", "kept", "executed", KindName
    ] = "stage"
    results: str = "results.json"
    format: str = ""
    timeout: float = 10
    memory: str = "64m"
    env: Mapping[str, str] = {}

    def stages(self, image: str, canary: Path) -> list[dict[str, Any]]:
        """Return the stages of the case's job, as a grader gets them. ``canary`` is the host's file that it knows."""
        pipeline = self._pipeline(image, canary)
        config = AssignmentConfig.model_validate({"student_pipeline": pipeline, "env": {"SECRET": SECRET}})
        posted = config.as_posted()
        return prepare_stages(
            posted["student_pipeline"], shared=posted["env"], job_env={"STUDENT_ID": "s"}, run_id="run", job_id="job"
        )

    @property
    def has_report(self) -> bool:
        """True if the results have a format, and so no document."""
        return bool(self.format) or self.pipeline in HARNESSES

    @property
    def _results(self) -> Any:
        return {"format": self.format, "path": "results.json"} if self.format else "results.json"

    def _pipeline(self, image: str, canary: Path) -> list[dict[str, Any]]:
        common = {"image": image, "memory": self.memory, "timeout": self.timeout}
        env = {"CANARY": str(canary), **self.env}
        submission = {**common, "env": env, "entrypoint": [*self.interpreter, self.submission]}
        untrusted = {**submission, "untrusted": True, "write": ["out"]}
        trusted = {**common, "networking": False}
        judge = {**trusted, "entrypoint": ["sh", "-c", JUDGES.get(self.pipeline, JUDGE)], "results": self._results}
        setup = {**trusted, "entrypoint": ["sh", "-c", SETUP]}
        match self.pipeline:
            case "planted" | "leaves" | "executed":
                after = {
                    "planted": {"entrypoint": ["true"], "results": self.results},
                    "leaves": {"entrypoint": ["true"], "artifacts": ["kept/*", "kept/way/*"]},
                    "executed": {"entrypoint": ["/job/a.out"]},
                }
                return [{**submission, "networking": False}, {**trusted, **after[self.pipeline]}]
            case "gradescope" | "prairielearn":
                return [
                    setup,
                    {**submission, "kind": self.pipeline},
                    {**trusted, "entrypoint": ["sh", "-c", UNCHANGED]},
                ]
            case "judged" | "copied" | "quoted" | "kept":
                keeps = {**trusted, "entrypoint": ["true"], "artifacts": ["out/*"]}
                return [untrusted, keeps if self.pipeline == "kept" else judge]
            case "class":
                return [setup, {**untrusted, "read": ["submission"]}, judge]
            case _:
                return [untrusted]


def load() -> list[Case]:
    """Return all cases, by name."""
    return [_case(path.parent) for path in sorted(HERE.glob("*/*/case.toml")) if path.parts[-3] != CONFIGS.name]


def _case(directory: Path) -> Case:
    (submission,) = directory.glob("submission.*")
    interpreter = {".sh": ["sh", "-c"], ".pl": ["perl", "-e"]}[submission.suffix]
    expected = tomllib.loads((directory / "case.toml").read_text())
    name = str(directory.relative_to(HERE))
    return Case(name=name, submission=submission.read_text(), interpreter=interpreter, **expected)
