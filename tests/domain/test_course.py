"""Courses: their tokens, and the course config file."""

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from broadway.domain.course import Course, CourseConfigError, hashed, read_courses, same_secret

COURSE = Course(id="cs1", tokens=("staff", "other"), query_tokens=("look",))
SALT = "0123456789abcdef" * 2
# Hashed as by an operator: printf %s "$salt$token" | sha256sum
STAFF = f"sha256${SALT}${hashlib.sha256((SALT + 'staff').encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("token", "admin", "query"),
    [
        ("staff", True, True),
        ("other", True, True),
        ("look", False, True),
        ("staf", False, False),
        ("staff ", False, False),
        ("", False, False),
        ("\udcff", False, False),
        ("ä", False, False),
    ],
)
def test_a_course_admits_exactly_its_tokens(token: str, *, admin: bool, query: bool) -> None:
    assert COURSE.admits(token) is admin
    assert COURSE.admits(token, query=True) is query


def test_tokens_are_hashed_with_a_salt_of_their_own() -> None:
    course = Course(id="cs1", tokens=("same", "same"), query_tokens=("same",))

    kept = [*course.tokens, *course.query_tokens]
    assert len(set(kept)) == 3
    assert all(hashed(token) == token for token in kept)
    assert course.admits("same")


def test_a_hashed_token_is_kept() -> None:
    course = Course(id="cs1", tokens=(STAFF,))

    assert course.tokens == (STAFF,)
    assert course.admits("staff")


def test_a_hash_is_not_a_token() -> None:
    for kept in (*COURSE.tokens, *COURSE.query_tokens, STAFF):
        for part in (kept, *kept.split("$"), kept.partition("$")[2]):
            assert not COURSE.admits(part, query=True)
            assert not Course(id="cs1", tokens=(STAFF,)).admits(part)


@pytest.mark.parametrize(
    "token",
    [
        STAFF.upper(),
        STAFF.replace("sha256", "sha512"),
        STAFF[:-1],
        STAFF + "0",
        STAFF + "\n",
        " " + STAFF,
        STAFF.replace("$", "$$"),
        STAFF.replace("a", "g"),
        "sha256$$",
        "$".join(["sha256", "", STAFF.rpartition("$")[2]]),
    ],
)
def test_a_token_that_only_resembles_a_hash_is_a_token(token: str) -> None:
    course = Course(id="cs1", tokens=(token,))

    assert course.tokens != (token,)
    assert course.admits(token)


def test_neither_a_course_nor_its_errors_show_tokens() -> None:
    with pytest.raises(ValidationError) as problem:
        Course.model_validate({"id": "cs1", "tokens": ["secret", 1], "query_tokens": "secret", "weight": "secret"})

    assert "secret" not in str(problem.value) + repr(problem.value)
    assert "sha256" not in repr(COURSE) + str(COURSE)
    assert "staff" not in repr(COURSE)


def test_a_course_without_tokens_admits_no_token() -> None:
    assert not Course(id="cs1", tokens=()).admits("", query=True)


def test_secrets_may_hold_any_text() -> None:
    assert same_secret("pässword", "pässword")
    assert not same_secret("pässword", "password")


def test_a_file_of_courses_is_read(tmp_path: Path) -> None:
    path = tmp_path / "courses.json"
    path.write_text(
        '{"cs1": {"tokens": ["a"], "query_tokens": ["b"], "weight": 2, "concurrency": 8, "pool": "gpu", "term": 1},'
        ' "cs2": {"tokens": []}}'
    )

    first, second = read_courses(path)

    assert (first.id, first.weight, first.concurrency, first.pool) == ("cs1", 2, 8, "gpu")
    assert [first.admits("a"), first.admits("b"), first.admits("b", query=True)] == [True, False, True]
    assert second == Course(id="cs2", tokens=())


def test_a_file_with_hashed_tokens_is_read(tmp_path: Path) -> None:
    path = tmp_path / "courses.json"
    path.write_text(f'{{"cs1": {{"tokens": ["{STAFF}", "other"]}}, "cs2": {{"tokens": ["{STAFF}"]}}}}')

    courses = read_courses(path)

    assert [course.admits("staff") for course in courses] == [True, True]
    assert [course.admits("other") for course in courses] == [True, False]


@pytest.mark.parametrize("token", ["hush\\r", " hush", "hu sh", "hush\\u00e9", "", "sha256$ABC$hush"])
@pytest.mark.parametrize("key", ["tokens", "query_tokens"])
def test_a_token_that_no_request_can_have_is_refused_by_its_place(tmp_path: Path, key: str, token: str) -> None:
    path = tmp_path / "courses.json"
    path.write_text(f'{{"cs1": {{"tokens": [], "{key}": ["good", "{token}"]}}}}')

    with pytest.raises(CourseConfigError, match=rf"course config {path}: course 'cs1': {key}\.1: (has|is) ") as problem:
        read_courses(path)
    assert "hush" not in str(problem.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_a_windows_editor_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "courses.json"
    path.write_text('{\r\n"cs1": {"tokens": ["a"]}}', encoding=encoding)

    assert [course.id for course in read_courses(path)] == ["cs1"]


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ("{}", "tokens"),
        ('{"tokens": "secret"}', "tokens"),
        ('{"tokens": null}', "tokens"),
        ('{"tokens": [1]}', "tokens.0"),
        ('{"tokens": {"secret": 1}}', "tokens"),
        ('{"tokens": [], "query_tokens": "secret"}', "query_tokens"),
        ('{"tokens": [], "query_tokens": null}', "query_tokens"),
        ('{"tokens": [], "query_tokens": [null]}', "query_tokens.0"),
        ('{"tokens": [], "weight": 0}', "weight"),
        ('{"tokens": [], "weight": NaN}', "weight"),
        ('{"tokens": [], "weight": 101}', "weight"),
        ('{"tokens": [], "concurrency": 0}', "concurrency"),
        ('{"tokens": [], "concurrency": 1.5}', "concurrency"),
        ('{"tokens": [], "pool": "a b"}', "pool"),
    ],
)
def test_the_error_names_the_course_the_key_and_the_file(tmp_path: Path, fields: str, key: str) -> None:
    path = tmp_path / "courses.json"
    path.write_text(f'{{"cs1": {{"tokens": ["a"]}}, "cs2": {fields}}}')

    with pytest.raises(CourseConfigError) as problem:
        read_courses(path)

    assert str(path) in str(problem.value)
    assert f"course 'cs2': {key}:" in str(problem.value)
    assert "secret" not in str(problem.value)


@pytest.mark.parametrize("name", ["", "cs 1", "cs/1", "cs.1", "cs1\\n", "c" * 101])
def test_a_course_that_no_path_could_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "courses.json"
    path.write_text(f'{{"{name}": {{"tokens": []}}}}')

    with pytest.raises(CourseConfigError, match="id: should "):
        read_courses(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"cs1"',
        b'{"cs1": []}',
        b'{"cs1": {"tokens": ["\xff"]}}',
        b'{"cs1": {"tokens": ["\\ud800"]}}',
        b'{"cs1": ' + b"[" * 100_000,
    ],
    ids=["empty", "cut", "list", "string", "no object", "not UTF-8", "half a surrogate pair", "deep"],
)
def test_a_file_that_is_not_json_of_courses_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "courses.json"
    path.write_bytes(content)

    with pytest.raises(CourseConfigError, match=r"courses\.json: "):
        read_courses(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CourseConfigError, match="No such file"):
        read_courses(tmp_path / "courses.json")
