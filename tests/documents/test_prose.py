"""The ratchet of `make check` on small packages and documents."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts import prose

BAD = '''"""What nobody needs."""

x = 1  # told by whoever has it


def f(x: int = Field(description="what it is")) -> None:
    """Return ``what`` and `nobody`.

    That is what the caller wants.
    """
'''
GOOD = '"""Return the result, or None."""\n'


def package(root: Path, text: str) -> Path:
    (root / "broadway").mkdir(parents=True)
    (root / "broadway" / "module.py").write_text(text)
    return root


def figures(root: Path, section: str) -> dict[str, list[int]]:
    """Return the lines that count towards each figure."""
    measured = prose.measure(prose.passages(root, prose.SECTIONS[section]))
    return {name: [offender.line for offender in each.offenders] for name, each in measured.items() if each.offenders}


def test_docstrings_comments_and_descriptions_count_and_code_does_not(tmp_path: Path) -> None:
    assert figures(package(tmp_path, BAD), "broadway") == {
        "what": [1, 9, 6],
        "somebody": [1, 3],
        "tell": [3],
        "starts-with-what": [1],
    }


def test_the_reason_for_an_exception_counts_and_its_code_does_not(tmp_path: Path) -> None:
    text = "import os  # noqa: F401 - somebody needs it\nx = 1  # type: ignore[what]\n"
    assert figures(package(tmp_path, text), "broadway") == {"somebody": [1]}


def test_paragraphs_headings_and_cells_count_and_blocks_do_not(tmp_path: Path) -> None:
    text = "# What it is\n\n```sh\nbroadway  # what\n```\n\nOne `what`,\nnobody.\n\n| a |\n| - |\n| what |\n"
    (tmp_path / "README.md").write_text(text)

    assert figures(tmp_path, "documents") == {"what": [1, 12], "somebody": [8], "starts-with-what": [1, 12]}


def test_a_figure_is_a_share(tmp_path: Path) -> None:
    package(tmp_path, '"""What is one of ten words in this short text."""\n\n\ndef f():\n    """Return."""\n')

    measured = prose.measure(prose.passages(tmp_path, prose.SECTIONS["broadway"]))

    assert measured["what"].value == pytest.approx(1000 / 11)
    assert measured["starts-with-what"].value == 50


def test_a_figure_above_its_bound_is_reported_with_its_places(tmp_path: Path) -> None:
    bounds = {section: dict.fromkeys(prose.FIGURES, 0.0) for section in prose.SECTIONS}

    assert prose.check(package(tmp_path / "good", GOOD), bounds) == []
    complaints = prose.check(package(tmp_path / "bad", BAD), bounds)

    assert [complaint.split()[1] for complaint in complaints] == ["what", "somebody", "tell", "starts-with-what"]
    assert "  broadway/module.py:1: What nobody needs." in complaints[0].splitlines()


def test_the_latest_offenders_come_first(tmp_path: Path) -> None:
    package(tmp_path, "# what is old\n# what is new\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=old", at="2020-01-01T00:00:00Z")
    module = tmp_path / "broadway" / "module.py"
    module.write_text("# what is old\n# what is newer\n")
    git(tmp_path, "commit", "--quiet", "--all", "--message=new", at="2021-01-01T00:00:00Z")
    module.write_text("# what is old\n# what is newer\n# what is not committed\n")

    offenders = prose.measure(prose.passages(tmp_path, prose.SECTIONS["broadway"]))["what"].offenders

    assert [offender.line for offender in offenders] == [1, 2, 3]
    assert [offender.line for offender in prose.newest(tmp_path, offenders)] == [3, 2, 1]


def git(root: Path, *arguments: str, at: str = "") -> None:
    identity = {name: "x" for who in ("AUTHOR", "COMMITTER") for name in (f"GIT_{who}_NAME", f"GIT_{who}_EMAIL")}
    environment = {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_COMMITTER_DATE": at, **identity}
    subprocess.run(["git", *arguments], cwd=root, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("value", "old", "bound"),
    [
        (7.31, None, 7.4),
        (7.31, 9.0, 7.4),  # lowered
        (7.31, 5.0, 5.0),  # never raised
        (0.3, 9.0, 2.0),  # never below the target
        (0.3, 1.5, 1.5),
    ],
)
def test_bounds_only_fall(value: float, old: float | None, bound: float) -> None:
    assert prose.lowered(value, prose.FIGURES["what"], old) == bound


def test_lowered_bounds_hold(tmp_path: Path) -> None:
    package(tmp_path, BAD)
    bounds = tomllib.loads(prose.lower(tmp_path, {}))

    assert prose.check(tmp_path, bounds) == []
    (tmp_path / "broadway" / "other.py").write_text('"""What nobody needs."""\n')
    assert prose.check(tmp_path, bounds)
