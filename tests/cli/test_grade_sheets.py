"""The commands that carry grades as files, against a server with fixed answers: files, findings and exit codes."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import Result
from scripted import Answer, server
from typer.testing import CliRunner

from broadway.cli.app import app

DATA = "Student;Zo\u00eb\r\n1;17,5\r\n".encode("cp1252")
LISTED = b"missing_in,student,row,row_text,reason\n"
HELD = {"student": "dan", "reason": "an error of the infrastructure: run the job again"}


def answer(**more: Any) -> Answer:
    body = {
        "version": 3,
        "version_at": "2026-11-30T12:00:00Z",
        "complete": True,
        "errors": 0,
        "held": [],
        "notes": [],
        "file": {"name": "mp1-v3.csv", "media_type": "text/csv", "content": b64encode(DATA).decode()},
        "counts": {"held": 0, "left out": 0},
        "left_out": [],
        **more,
    }
    return 200, {}, json.dumps(body).encode()


def merged(**more: Any) -> Answer:
    counts = {"changed": 2, "same": 0, "held": 0, "students without a row": 0, "rows without a grade": 0}
    return answer(
        **{
            "lms": "canvas",
            "column": "mp1 (1234)",
            "counts": counts,
            "changes": [],
            "unmatched": {"name": "u.csv", "media_type": "text/csv", "content": b64encode(LISTED).decode()},
            "unmatched_students": [],
            "unmatched_rows": [],
            **more,
        }
    )


UNMATCHED: dict[str, Any] = {
    "complete": False,
    "counts": {"changed": 2, "same": 0, "held": 0, "students without a row": 30, "rows without a grade": 1},
    "unmatched_students": [{"student": f"s{n}", "reason": "no row has one of its identifiers"} for n in range(30)],
    "unmatched_rows": [{"row": 7, "label": "Eve \x1b[31m", "reason": "no grade has one of its identifiers"}],
}


def typed(*arguments: str, given: Answer, stdin: bytes | None = None) -> tuple[Result, list[str]]:
    with server(given) as (address, seen):
        access = ("--server", address, "--token", "t", "-c", "c")
        return CliRunner().invoke(app, ["grades", *arguments, *access], input=stdin), seen


def query(seen: list[str]) -> dict[str, list[str]]:
    return parse_qs(urlsplit(seen[-1].split(" ")[1]).query)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "canvas.csv"
    file.write_bytes(b"Student,ID\n")
    return file


def test_an_export_is_the_bytes_of_the_server(tmp_path: Path) -> None:
    target = tmp_path / "new.csv"
    piped, seen = typed("export", "mp1", "--format", "moodle", "--decimal", "comma", given=answer())
    written, sent = typed("export", "mp1", "-o", str(target), "--version", "3", given=answer())
    draft, drafted = typed("export", "mp1", "--draft", given=answer(version=None))

    assert (piped.exit_code, written.exit_code) == (0, 0), piped.output + written.output
    assert piped.stdout_bytes == target.read_bytes() == DATA
    assert "version 3: 0 held, 0 left out" in piped.stderr
    assert "draft: 0 held" in draft.stderr
    assert [query(each)["version"] for each in (sent, drafted)] == [["3"], ["draft"]]
    assert query(seen) == {"answer": ["json"], "format": ["moodle"], "decimal": ["comma"]}


def test_a_new_file_replaces_no_other_one(source: Path) -> None:
    exported, seen = typed("export", "mp1", "-o", str(source), given=answer())
    merge, _ = typed("merge", "mp1", str(source), "--column", "x", "-o", str(source), given=merged())

    assert (exported.exit_code, merge.exit_code, seen) == (2, 2, [])
    assert "exists; remove it, or name another file" in exported.stderr
    assert source.read_bytes() == b"Student,ID\n"


def test_a_dash_is_standard_output_and_the_two_files_are_not_one(source: Path) -> None:
    piped, _ = typed("export", "mp1", "-o", "-", given=answer())
    same = str(source.with_name("x.csv"))
    merge, seen = typed("merge", "mp1", str(source), "--column", "x", "-o", same, "--unmatched", same, given=merged())

    assert (piped.exit_code, piped.stdout_bytes) == (0, DATA)
    assert (merge.exit_code, seen) == (2, [])


def test_options_that_contradict_each_other_are_named() -> None:
    both, _ = typed("export", "mp1", "--draft", "--version", "3", given=answer())
    encoding, _ = typed("import", "mp1", "-", "--encoding", "ebcdic", given=answer(), stdin=b"")

    assert (both.exit_code, encoding.exit_code) == (2, 2)
    assert "expected --draft or --version, not both" in both.stderr
    assert "encoding: should be 'utf-8', 'windows-1252', 'latin-1' or 'utf-16'" in encoding.stderr


def test_a_merge_sends_its_options_and_writes_both_files(source: Path) -> None:
    target = source.with_name("merged.csv")
    options = ("--key", "A=sis_id", "--key", "B=email", "--by-name", "--missing", "zero", "--student-is", "email")

    done, seen = typed(
        "merge", "mp1", str(source), "--column", "mp1", *options, "-o", str(target), given=merged(**UNMATCHED)
    )

    assert done.exit_code == 0, done.output
    assert target.read_bytes() == DATA
    assert source.with_name("merged-unmatched.csv").read_bytes() == LISTED
    assert query(seen) == {
        "answer": ["json"],
        "column": ["mp1"],
        "key": ["A=sis_id", "B=email"],
        "by_name": ["true"],
        "missing": ["zero"],
        "student_is": ["email"],
    }


def test_students_and_rows_without_a_counterpart_are_named(source: Path) -> None:
    done, _ = typed("merge", "mp1", str(source), "--column", "mp1", given=merged(**UNMATCHED))

    lines = done.stderr.splitlines()
    assert lines[0] == (
        "canvas: column mp1 (1234), version 3: 2 changed, 0 same, 0 held, 30 students without a row, "
        "1 row without a grade"
    )
    assert lines[1] == "not in the file: s0: no row has one of its identifiers"
    assert "not in the file: 10 more" in lines
    assert "\x1b" not in done.stderr, "texts of files reach no terminal as they are"
    assert lines[-1] == "all without a counterpart: give --unmatched FILE for the list"
    assert done.stdout_bytes == DATA


@pytest.mark.parametrize(
    ("more", "strict", "code"),
    [
        ({}, True, 0),
        (UNMATCHED, False, 0),
        (UNMATCHED, True, 1),
        ({"complete": False, "held": [HELD], "errors": 1}, False, 1),
        ({"complete": False, "held": [HELD]}, False, 0),
    ],
)
def test_the_exit_code_is_that_of_the_findings(source: Path, more: dict[str, Any], *, strict: bool, code: int) -> None:
    flag = ["--strict"] if strict else []
    merge, _ = typed("merge", "mp1", str(source), "--column", "mp1", *flag, given=merged(**more))
    exported = {key: value for key, value in more.items() if key in ("complete", "held", "errors")}
    export, _ = typed("export", "mp1", *flag, given=answer(**exported))

    assert (merge.exit_code, export.exit_code) == (code, code)
    assert merge.stdout_bytes == export.stdout_bytes == DATA, "the file is written all the same"


def test_findings_are_printed_as_json_without_the_files(source: Path) -> None:
    done, _ = typed("merge", "mp1", str(source), "--column", "mp1", "--json", given=merged())

    found = json.loads(done.stdout)
    assert (found["column"], found["file"]) == ("mp1 (1234)", {"name": "mp1-v3.csv", "media_type": "text/csv"})


def test_a_refusal_of_the_server_ends_the_command_without_a_file(source: Path) -> None:
    refusal = (404, {}, b'{"detail": "no grades of mp1 are published; publish them, or ask for the draft"}')
    target = source.with_name("merged.csv")

    done, _ = typed("merge", "mp1", str(source), "--column", "mp1", "-o", str(target), given=refusal)

    assert done.exit_code == 1
    assert "no grades of mp1 are published" in done.stderr
    assert not target.exists()


def imported(**more: Any) -> Answer:
    counts = {"changes": 1, "made before": 0, "obstacles": 0, "same": 3, "unknown students": 0}
    change = {"row": 2, "student": "ada", "before": "17.5", "after": "18", "excused": False, "reason": "bonus"}
    body = {
        "version": 3,
        "applied": False,
        "counts": {**counts, "students without a row": 0},
        "changes": [change, {**change, "row": 3, "student": "bob", "after": None, "excused": True}],
        "obstacles": [],
        "unknown": [],
        "absent": [],
        **more,
    }
    return 200, {}, json.dumps(body).encode()


def test_changes_are_shown_or_made(source: Path) -> None:
    shown, seen = typed("import", "mp1", str(source), given=imported())
    made, sent = typed("import", "mp1", "-", "--apply", "--reason", "a b", given=imported(applied=True), stdin=b"x")

    assert (shown.exit_code, made.exit_code) == (0, 0), shown.output + made.output
    assert [line.split("\t") for line in shown.stdout.splitlines()] == [
        ["row", "student", "before", "after", "reason"],
        ["2", "ada", "17.5", "18", "bonus"],
        ["3", "bob", "17.5", "excused", "bonus"],
    ]
    assert "not applied: give --apply" in shown.stderr
    assert made.stderr.splitlines()[0].endswith("; applied")
    assert (query(seen), query(sent)) == ({}, {"apply": ["true"], "reason": ["a b"]})


def test_a_change_that_must_not_be_made_is_a_failure(source: Path) -> None:
    counts = {**json.loads(imported()[2])["counts"], "obstacles": 1}
    obstacles = [{"student": "ada", "reason": "row 2: the grade is 19 now; export the grades again"}]

    done, _ = typed("import", "mp1", str(source), given=imported(counts=counts, obstacles=obstacles))

    assert done.exit_code == 1
    assert ", 1 obstacle," in done.stderr
    assert "obstacle: ada: row 2: the grade is 19 now" in done.stderr


def test_an_import_without_changes_has_no_table(source: Path) -> None:
    done, _ = typed("import", "mp1", str(source), given=imported(changes=[]))

    assert (done.exit_code, done.stdout) == (0, "")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done, seen = typed("import", "mp1", str(tmp_path / "none.csv"), given=imported())

    assert (done.exit_code, seen) == (1, [])
    assert "none.csv: No such file or directory" in done.stderr
