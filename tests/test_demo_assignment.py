import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from broadway.domain.assignment import AssignmentConfig
from broadway.domain.job import Outcome
from demo import course_server, pipelines, progress, results, rootfs, submissions

ASSIGNMENT = Path(pipelines.__file__).parent / "assignment"
EXPECTED = submissions.expected()

# These failures end with their process; the other ones need a container.
HARMLESS_FAILURES = ("farah06", "ines09", "olga15", "wanda23", "samir19", "yuki25")
SUCCESSES = tuple(student for student, each in EXPECTED.items() if each.outcome == Outcome.SUCCEEDED)

ONE = [{"topic": "numbers", "expression": "1", "value": 1}]


@dataclass(frozen=True)
class Verdict:
    status: int
    log: list[str]


def graded(job: Path, source: bytes, tests: list[dict[str, Any]]) -> Verdict:
    (job / "solution.py").write_bytes(source)
    (job / "tests.json").write_text(json.dumps(tests))
    command = [sys.executable, str(ASSIGNMENT / "run_tests.py"), "--job", str(job)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return Verdict(done.returncode, done.stdout.decode(errors="replace").splitlines())


@pytest.fixture
def generate_tests(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return scripts(monkeypatch, "generate_tests")


def scripts(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a stage's script as it is imported in a container, and forget it afterwards."""
    monkeypatch.syspath_prepend(ASSIGNMENT)
    for each in ("course", "reference", name):
        monkeypatch.delitem(sys.modules, each, raising=False)
    module = __import__(name)
    for each in ("course", "reference", name):
        if each in sys.modules:
            monkeypatch.delitem(sys.modules, each)
    return module


def test_every_submission_has_an_expected_outcome() -> None:
    folders = {path.parent.name for path in submissions.FOLDER.glob("*/solution.py")}
    assert folders == EXPECTED.keys()
    assert len(folders) == 30
    assert {each.outcome for each in EXPECTED.values()} <= set(Outcome)


@pytest.mark.parametrize("student", [*SUCCESSES, *HARMLESS_FAILURES])
def test_submissions_have_the_expected_outcomes(student: str, tmp_path: Path, generate_tests: ModuleType) -> None:
    tests = list(generate_tests.cases(pipelines.SEED))
    tested = graded(tmp_path, submissions.source(student), tests)
    assert (tested.status == 0) == (student in SUCCESSES), tested.log
    assert tested.log[-1].endswith(f"of {len(tests)} tests passed")


def test_a_seed_draws_the_same_tests_each_time_and_two_for_each_topic(generate_tests: ModuleType) -> None:
    tests = list(generate_tests.cases("a seed"))
    assert tests == list(generate_tests.cases("a seed"))
    assert tests != list(generate_tests.cases("another"))
    topics = [test["topic"] for test in tests]
    assert {topics.count(topic) for topic in topics} == {2}
    assert {test.get("error") for test in tests} == {None, "ValueError", "ZeroDivisionError"}


def test_the_tests_are_gone_when_student_code_runs(tmp_path: Path) -> None:
    source = b"import os\ndef evaluate(text): return int(not os.path.exists('%s'))" % bytes(tmp_path / "tests.json")
    assert graded(tmp_path, source, ONE).status == 0


@pytest.mark.parametrize(
    "source",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "print('1 of 1 tests passed')",
        "evaluate = 1",
        "def evaluate(text): return True",
        "def evaluate(text): return '1'",
        "def evaluate(text): raise SystemExit(0)",
        "class Int(int): pass\ndef evaluate(text): return Int(1)",
        "import os\ndef evaluate(text): os.write(int(__import__('sys').argv[2]), b'what\\n'); return 1",
        "import os\nos.write(int(__import__('sys').argv[2]), b'[1]\\n')\ndef evaluate(text): return 1",
        "import os\nos.closerange(3, 64)\ndef evaluate(text): return 1",
        "\0",
    ],
)
def test_only_right_answers_pass(source: str, tmp_path: Path) -> None:
    tested = graded(tmp_path, source.encode(), ONE)
    assert tested.status == 1
    assert tested.log[-1] == "0 of 1 tests passed"


def test_an_exception_in_one_test_does_not_stop_the_others(tmp_path: Path) -> None:
    two = [*ONE, {"topic": "numbers", "expression": "2", "value": 2}]
    tested = graded(tmp_path, b"def evaluate(text): return {'2': 2}[text]", two)
    assert tested == Verdict(
        1, ["FAIL numbers: '1': expected 1, got KeyError: '1'", "ok   numbers: '2'", "1 of 2 tests passed"]
    )


def test_output_goes_to_the_log_beside_its_test(tmp_path: Path) -> None:
    tested = graded(tmp_path, b"def evaluate(text): print('hello'); return 1", ONE)
    assert tested.log == ["hello", "ok   numbers: '1'", "1 of 1 tests passed"]


def test_the_course_server_serves_and_stores(tmp_path: Path) -> None:
    rows = [{"student": "ada01"}]
    server = course_server.CourseServer(lambda run: rows if run == "r1" else [], tmp_path)
    with TestClient(server.app()) as client:
        assert client.get("/submissions/ada01").content == submissions.source("ada01")
        assert client.get("/submissions/..%2fexpected").status_code == 404
        assert client.get("/runs/r1/tests").status_code == 404
        assert client.put("/runs/r1/tests", content=b"[1]").status_code == 204
        assert client.get("/runs/r1/tests").json() == [1]
        assert client.get("/runs/r1/outcomes").json() == rows
        assert client.put("/runs/r1/report", content=b"# Report").status_code == 204
        assert client.put("/runs/r.1/report", content=b"").status_code == 404
    assert server.report("r1").read_text() == "# Report"


def test_stages_talk_to_a_course_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"student": "ada01", "outcome": "timed_out", "seconds": 1.25, "score": None, "reason": "too | slow"}]
    server = course_server.CourseServer(lambda _: rows, tmp_path)
    with course_server.serve(server.app(), course_server.listen("127.0.0.1", tmp_path / "port")) as url:
        for name, value in {"COURSE_SERVER": url, "GRADING_RUN_ID": "r1", "STUDENT_ID": "ada01", "SEED": "s"}.items():
            monkeypatch.setenv(name, value)
        scripts(monkeypatch, "generate_tests").main()
        fetch = scripts(monkeypatch, "fetch_submission")
        monkeypatch.setattr(fetch, "JOB", tmp_path)
        fetch.main()
        scripts(monkeypatch, "publish_report").main()
        monkeypatch.setenv("STUDENT_ID", "nobody")
        with pytest.raises(SystemExit, match="404"):
            fetch.main()
    assert (tmp_path / "solution.py").read_bytes() == submissions.source("ada01")
    assert (tmp_path / "tests.json").stat().st_mode & 0o777 == 0o600
    assert len(json.loads((tmp_path / "tests.json").read_text())) == 20
    assert "| ada01 | timed out |  | 1.2 | too / slow |" in server.report("r1").read_text()
    assert "20 tests drawn" in capsys.readouterr().out


def test_the_course_server_reuses_its_port(tmp_path: Path) -> None:
    with course_server.listen("127.0.0.1", tmp_path / "port") as first:
        port = first.getsockname()[1]
        with course_server.listen("127.0.0.1", tmp_path / "port") as other:
            assert other.getsockname()[1] != port
    (tmp_path / "port").write_text(str(port))
    with course_server.listen("127.0.0.1", tmp_path / "port") as again:
        assert again.getsockname()[1] == port


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(course_server.CourseServerError, match="cannot listen on"):
        course_server.listen("198.51.100.1", tmp_path / "port")


def test_the_pipelines_are_a_valid_assignment() -> None:
    config = AssignmentConfig.model_validate(pipelines.config("image", "http://192.0.2.1"))
    assert [stage.networking for stage in config.student_pipeline] == [True, False, False]
    assert len(pipelines.run(list(EXPECTED))["students_env"]) == 30


def test_rows_are_compared_with_the_expected_outcomes() -> None:
    rows = [
        {"student": student, "outcome": each.outcome, "seconds": 1.0, "reason": "", "score": None}
        for student, each in EXPECTED.items()
    ]
    assert results.as_expected(rows, EXPECTED) == 30
    wrong = [*rows[1:], {**rows[0], "outcome": "failed", "score": "3 of 4 tests passed", "attempts": 2}]
    assert results.as_expected(wrong, EXPECTED) == 29
    assert results.as_expected(rows[1:], EXPECTED) == 29
    assert results.table(wrong[1:], EXPECTED).row_count == 30
    assert results.why(wrong[-1]) == "3 of 4 tests passed (2 attempts)"


def test_progress_counts_the_jobs_of_each_phase() -> None:
    status = {
        "state": "students grading jobs have been scheduled",
        "pre_processing_job_state": {"1": "grading job was successful"},
        "student_jobs_state": {
            "2": "grading job has been scheduled",
            "3": "grading job is running",
            "4": "grading job failed",
        },
        "post_processing_job_state": None,
    }
    assert progress.phases(status) == {
        "pre-processing": progress.Phase(0, 1),
        "students": progress.Phase(1, 1),
        "post-processing": progress.Phase(0, 0),
    }


def test_the_root_file_system_has_a_python_and_its_libraries() -> None:
    target = io.BytesIO()
    rootfs.write(target)
    target.seek(0)
    with tarfile.open(fileobj=target) as archive:
        names = set(archive.getnames())
        assert archive.getmember("usr/bin/python3").linkname == str(rootfs.interpreter())
    assert str(rootfs.interpreter()).lstrip("/") in names
    assert f"{os.path.dirname(os.__file__)}/json/decoder.py".lstrip("/") in names  # noqa: PTH120 - a name in an archive
    assert any("libc.so" in name or "ld-musl" in name for name in names)
