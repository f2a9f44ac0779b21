"""Names of files, and sets of files that no submission may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.files import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_PATH,
    FileLimits,
    FileRefusedError,
    FileTree,
    clean_path,
    is_litter,
    shown,
    with_slashes,
    without_top,
)

LIMITS = FileLimits(files=5)


@pytest.mark.parametrize(
    "name", ["main.c", "src/Main.java", "-rf", "a b.txt", ".gitignore", "übung.c", "日本/レポート.md"]
)
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert clean_path(name) == name


def test_names_are_composed_so_that_equal_names_are_equal_texts() -> None:
    assert clean_path("u\u0308bung.c") == "übung.c"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "the name is empty"),
        ("/", "the name is empty"),
        ("/etc/passwd", "an absolute path"),
        ("C:/x", "an absolute path"),
        ("c:ads", "an absolute path"),
        ("a/../../x", ".. is not a name"),
        ("./x", ". is not a name"),
        ("a//b", "a name in the path is empty"),
        ("a/", "a name in the path is empty"),
        ("a\\b", "a backslash"),
        ("a\nb", "control characters"),
        ("a\0b", "control characters"),
        ("\x1b]0;x\x07", "control characters"),
        ("ab\u202egnp.exe", "cannot be seen"),
        ("a\u200b.c", "cannot be seen"),
        ("\ud800", "cannot be seen"),
        ("n" * (MAX_NAME + 1), "a name is too long"),
        ("ü" * (MAX_NAME // 2 + 1), "a name is too long"),
        ("/".join(["d"] * (MAX_DEPTH + 1)), "directories deep"),
        ("/".join(["d" * 200] * 6), "the path is too long"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_other_names_are_refused_with_their_problem(name: str, problem: str) -> None:
    with pytest.raises(FileRefusedError, match=problem):
        clean_path(name)


def test_names_at_their_bounds_are_taken() -> None:
    assert clean_path("n" * MAX_NAME)
    assert clean_path("/".join(["d"] * MAX_DEPTH))
    assert clean_path("/".join(["d" * 255] * 3 + ["d" * 256]).removesuffix("d")).count("d") < MAX_PATH


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_a_refusal_shows_no_character_that_changes_the_text_around_it(name: str) -> None:
    assert shown(name).isprintable()


def test_files_that_some_systems_take_for_one_are_refused_with_both_names() -> None:
    tree = FileTree(LIMITS)
    tree.add("src/Main.java")

    with pytest.raises(FileRefusedError, match=r"src/Main.java and src/main.java differ only in case"):
        tree.add("src/main.java")
    with pytest.raises(FileRefusedError, match=r"src/ and SRC/ differ only in case"):
        tree.add("SRC/other.java")
    with pytest.raises(FileRefusedError, match=r"src/Main.java is there twice"):
        tree.add("src/Main.java")


def test_a_name_is_either_a_file_or_a_directory() -> None:
    tree = FileTree(LIMITS)
    tree.add("a/b")

    with pytest.raises(FileRefusedError, match="a is a file and a directory"):
        tree.add("a")
    with pytest.raises(FileRefusedError, match="a/b is a file and a directory"):
        tree.add("a/b/c")


def test_the_number_of_files_is_limited() -> None:
    tree = FileTree(LIMITS)
    for number in range(LIMITS.files):
        tree.add(f"f{number}")

    with pytest.raises(FileRefusedError, match="one-more: a submission may have 5 files"):
        tree.add("one-more")
    assert len(tree) == LIMITS.files


def test_a_single_top_directory_can_be_left_out() -> None:
    assert without_top(["mp1/a", "mp1/b/c"]) == ["a", "b/c"]
    assert without_top(["mp1/a", "b"]) == ["mp1/a", "b"]
    assert without_top(["a"]) == ["a"]


def test_backslashes_of_old_tools_become_slashes_only_if_no_name_has_a_slash() -> None:
    assert with_slashes(["a\\b", "c"]) == ["a/b", "c"]
    assert with_slashes(["a\\b", "c/d"]) == ["a\\b", "c/d"]


@pytest.mark.parametrize("path", ["__MACOSX/._a", ".DS_Store", "d/Thumbs.db", "desktop.ini"])
def test_files_of_desktops_are_litter(path: str) -> None:
    assert is_litter(path)


def test_files_of_students_are_not() -> None:
    assert not is_litter("MACOSX/a")
