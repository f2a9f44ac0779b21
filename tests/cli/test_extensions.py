"""Extensions that the command refuses before it asks a server."""

import pytest
from typer.testing import CliRunner

from broadway.cli.app import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--days", "2"], "expected one of --student, --group and --label"),
        (["--student", "ada", "--label", "late", "--days", "2"], "expected one of --student, --group and --label"),
        (["--student", "ada"], "expected --due, --closes, --days or --minutes"),
        (["--student", "ada", "--due", "tomorrow"], "due: expected a date and a time"),
        (["--student", "ada", "--days", "1001"], "add_days: should be 1000 or less"),
    ],
    ids=["nobody", "two", "nothing", "no time", "too many"],
)
def test_an_extension_without_sense_ends_with_usage(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["extension", "add", "mp1", *arguments])

    assert done.exit_code == 2
    assert said in done.stderr
