"""`broadway student export`: all that is stored about a student."""

from pathlib import Path
from typing import Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import Course, CourseServer, Token, submissions_client

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The new file.", show_default="STUDENT.zip", dir_okay=False)
]


def export(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="The student, as the roster names it.")],
    *,
    output: Output = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Write all that is stored about a student to a zip: submissions, jobs, logs, reports, grades, tokens, audit."""
    target = output or Path(f"{student.replace('/', '_')}.zip")
    with submissions_client(server, course, token, or_operator=True) as api:
        api.export_student(student, target)
    terminal.message(f"{target} has all that is stored about {student}")
