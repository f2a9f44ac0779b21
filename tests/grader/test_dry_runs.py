"""`broadway assignment validate --run`: the grader's own code with each runtime, and both views of the report."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import docker
import pytest
from harness import broadway, until

RESULTS = {
    "tests": [
        {"name": "open", "score": 1, "max_score": 2},
        {"name": "secret-name", "score": 3, "max_score": 3, "visibility": "hidden"},
    ]
}


def shell(image: str, script: str, **more: Any) -> dict[str, Any]:
    return {"image": image, "entrypoint": ["sh", "-c", script], "networking": False, **more}


def assignment(directory: Path, *stages: dict[str, Any], **settings: Any) -> Path:
    file = directory / "hw1.json"
    file.write_text(json.dumps({"student_pipeline": stages, "settings": settings, "env": {"SHARED": "x"}}))
    return file


def handed_in(directory: Path) -> Path:
    submission = directory / "files"
    (submission / "src").mkdir(parents=True)
    (submission / "src" / "answer").write_text("42\n")
    return submission


def words(file: Path, submission: Path, *options: str) -> list[str]:
    return ["assignment", "validate", str(file), "--run", str(submission), *options]


async def run(docker_host: str, command: list[str]) -> tuple[int, str, str]:
    done = await broadway(*command, DOCKER_HOST=docker_host, COLUMNS="200")
    return done.exit_code, done.stdout, done.stderr


async def test_stages_run_and_both_views_are_printed(
    kind: str, docker_host: str, busybox_image: str, tmp_path: Path
) -> None:
    program = "cd /job; cat submission/src/answer > out/answer"
    judge = (
        f"cd /job; cat out/answer; echo $BROADWAY_STUDENT $SHARED $SEED; echo '{json.dumps(RESULTS)}' > results.json"
    )
    file = assignment(
        tmp_path,
        shell(busybox_image, program, untrusted=True, read=["submission"], write=["out"]),
        shell(
            busybox_image,
            judge,
            results={"format": "gradescope", "path": "results.json"},
            artifacts=["out/*"],
        ),
        points=10,
    )
    options = ["--student", "ada", "--env", "SEED=7", "--log", *(["--runtime", "oci"] if kind == "oci" else [])]

    code, out, errors = await run(docker_host, words(file, handed_in(tmp_path), *options))

    assert code == 0, errors
    assert "42\n" in out
    assert "ada x 7" in out
    lines = out.splitlines()
    staff, student = (lines.index(f"{who} would see:") for who in ("Staff", "The student"))
    assert [line.split("\t")[1:4] for line in lines[staff + 2 : student]] == [
        ["open", "partial", "1 of 2"],
        ["secret-name", "passed", "3 of 3"],
    ]
    assert [line.split("\t")[1:4] for line in lines[student + 2 :]] == [["open", "partial", "1 of 2"]]
    assert "outcome: succeeded" in errors
    assert errors.count("score: 4 of 10") == 1, "the student sees no total while a test is hidden"
    assert "artifact out/answer: " in errors
    assert "the file's maximum is 5, the assignment has 10 points" in errors
    assert not list(tmp_path.glob("broadway-work*"))


async def test_an_autograder_of_a_kind_runs(docker_host: str, busybox_image: str, tmp_path: Path) -> None:
    facts = "test -f submission/src/answer && grep -q ada submission_metadata.json"
    script = f"{facts} && echo '{{\"score\": 2}}' > results/results.json"
    file = assignment(tmp_path, shell(busybox_image, script, kind="gradescope"))

    code, out, errors = await run(docker_host, words(file, handed_in(tmp_path), "--student", "ada", "--json"))

    assert code == 0, errors
    found = json.loads(out)
    assert (found["outcome"], found["staff"]["report"]["score"], found["student"]["report"]["score"]) == (
        "succeeded",
        "2",
        "2",
    )
    assert "kind gradescope is compatible, not tamper-proof" in errors


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("exit 3", 0, "outcome: failed (stage 1 of 1: exit code 3)"),
        ("echo hello; echo '{' > /job/results.json", 1, "results.json"),
    ],
    ids=["a failed test", "a broken autograder"],
)
async def test_only_a_missing_result_fails_the_command(
    docker_host: str, busybox_image: str, tmp_path: Path, script: str, code: int, text: str
) -> None:
    results = {} if code == 0 else {"results": {"format": "gradescope", "path": "results.json"}}
    file = assignment(tmp_path, shell(busybox_image, script, **results))

    done, out, errors = await run(docker_host, words(file, handed_in(tmp_path)))

    assert (done, text in errors) == (code, True), errors
    assert ("hello" in out) is (code == 1), "the output explains an error of the autograder"


async def test_a_signal_leaves_no_container(
    docker_host: str, busybox_image: str, api: docker.APIClient, tmp_path: Path
) -> None:
    file = assignment(tmp_path, shell(busybox_image, "sleep 600", timeout=600, env={"MARK": tmp_path.name}))
    environment = {**os.environ, "DOCKER_HOST": docker_host}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broadway", *words(file, handed_in(tmp_path))),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )

    def own() -> list[dict[str, Any]]:
        return [*api.containers(all=True, filters={"label": "io.broadway.grader=dry-run", "status": "running"})]

    async def runs() -> bool:
        return bool(await asyncio.to_thread(own))

    await until(runs)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()

    assert (process.returncode, own()) == (130, [])
    assert b"nothing is left running" in errors
