"""Courses: their tokens, and the file that they come from."""

from pathlib import Path

import pytest

from broadway.course import Course, CourseConfigError, read_courses, same_secret

COURSE = Course(id="cs1", tokens=("staff", "other"), query_tokens=("look",))


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
def test_tokens(token: str, *, admin: bool, query: bool) -> None:
    assert COURSE.admits(token) is admin
    assert COURSE.admits(token, query=True) is query


def test_a_course_without_tokens_admits_nobody() -> None:
    assert not Course(id="cs1", tokens=()).admits("", query=True)


def test_secrets_may_hold_any_text() -> None:
    assert same_secret("pässword", "pässword")
    assert not same_secret("pässword", "password")


def test_a_file_of_courses(tmp_path: Path) -> None:
    path = tmp_path / "courses.json"
    path.write_text(
        '{"cs1": {"tokens": ["a"], "query_tokens": ["b"], "weight": 2, "concurrency": 8, "pool": "gpu", "term": 1},'
        ' "cs2": {"tokens": []}}'
    )

    assert read_courses(path) == [
        Course(id="cs1", tokens=("a",), query_tokens=("b",), weight=2, concurrency=8, pool="gpu"),
        Course(id="cs2", tokens=()),
    ]


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ("{}", "tokens"),
        ('{"tokens": "secret"}', "tokens"),
        ('{"tokens": null}', "tokens"),
        ('{"tokens": [1]}', "tokens.0"),
        ('{"tokens": [], "query_tokens": [null]}', "query_tokens.0"),
        ('{"tokens": [], "weight": 0}', "weight"),
        ('{"tokens": [], "weight": NaN}', "weight"),
        ('{"tokens": [], "weight": 101}', "weight"),
        ('{"tokens": [], "concurrency": 0}', "concurrency"),
        ('{"tokens": [], "concurrency": 1.5}', "concurrency"),
        ('{"tokens": [], "pool": "a b"}', "pool"),
    ],
)
def test_a_wrong_course_is_named_with_its_key_and_file(tmp_path: Path, fields: str, key: str) -> None:
    path = tmp_path / "courses.json"
    path.write_text(f'{{"cs1": {{"tokens": ["a"]}}, "cs2": {fields}}}')

    with pytest.raises(CourseConfigError) as problem:
        read_courses(path)

    assert str(path) in str(problem.value)
    assert f"course 'cs2': {key}:" in str(problem.value)


@pytest.mark.parametrize("name", ["", "cs 1", "cs/1", "cs.1", "cs1\\n", "c" * 101])
def test_a_course_that_no_path_could_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "courses.json"
    path.write_text(f'{{"{name}": {{"tokens": []}}}}')

    with pytest.raises(CourseConfigError, match="id: String should"):
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
def test_a_file_that_is_not_json_of_courses(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "courses.json"
    path.write_bytes(content)

    with pytest.raises(CourseConfigError, match=r"courses\.json: "):
        read_courses(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CourseConfigError, match="No such file"):
        read_courses(tmp_path / "courses.json")
