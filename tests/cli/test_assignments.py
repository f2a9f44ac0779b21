"""Checks of an assignment's file that need no server."""

import json
from pathlib import Path

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
