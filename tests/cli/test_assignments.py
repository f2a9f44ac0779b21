"""Checks of an assignment's file that need no server."""

import json
from pathlib import Path

import pytest
from harness import broadway
from typer.testing import CliRunner

from broadway.cli.app import app


def test_a_stage_with_a_kind_is_said_to_be_compatible_and_not_tamper_proof(tmp_path: Path) -> None:
    file = tmp_path / "assignment.json"
    stages = [{"image": "a", "entrypoint": ["true"]}, {"image": "a", "kind": "gradescope"}]
    file.write_text(json.dumps({"student_pipeline": stages}))

    done = CliRunner().invoke(app, ["assignment", "validate", str(file)])

    assert done.exit_code == 0, done.output
    assert "student_pipeline.1: kind gradescope is compatible, not tamper-proof" in done.stderr
    assert "student_pipeline.0" not in done.stderr


@pytest.mark.parametrize(
    ("options", "files", "code", "text"),
    [
        ([], ["main.h"], 1, "a submission of these files is refused: main.c is missing; the files are main.h"),
        ([], ["main.c", "x"], 1, "no.sock (DOCKER_HOST): "),
        (["--env", "SEED"], ["main.c"], 2, "broadway: --env SEED: expected NAME=VALUE"),
        (["--runtime", "../x"], ["main.c"], 2, "--runtime: "),
    ],
    ids=["refused files", "no engine", "no variable", "no runtime"],
)
async def test_a_dry_run_says_why_it_cannot_be(
    options: list[str], files: list[str], code: int, text: str, tmp_path: Path
) -> None:
    file, submission = tmp_path / "hw1.json", tmp_path / "files"
    stages = [{"image": "a", "entrypoint": ["true"]}]
    file.write_text(json.dumps({"student_pipeline": stages, "settings": {"files": {"required": ["main.c"]}}}))
    submission.mkdir()
    for name in files:
        (submission / name).write_text("")
    words = ["assignment", "validate", str(file), "--run", str(submission), *options]

    done = await broadway(*words, DOCKER_HOST=f"unix://{tmp_path}/no.sock", PATH="/bin")

    assert (done.exit_code, done.stdout) == (code, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
