"""Commands on a terminal show hostile texts of a course as text. A new command must be listed here."""

import asyncio
import json
import os
import pty
import re
from pathlib import Path
from typing import Any

from forks import fork_server
from graded import World
from harness import Client, token_of
from hostile_texts import OBEYED, HostileCourse
from typer.main import get_command

from broadway.cli.app import app
from broadway.connections import Connections
from broadway.settings.programs import IngestSettings

# Each on a terminal; upper-case words stand for parts of the course.
READS = (
    "assignment list", "assignment show mp1", "audit", "callback deliveries lms", "callback list", "callback show lms",
    "course list", "course token list", "dead list", "dead show LETTER", "extension list mp1", "grader list",
    "grader show GRADER", "grader token list", "grades adjustments mp1", "grades history mp1", "grades show mp1",
    "hook list", "hook show git", "job artifacts JOB", "job log JOB", "job report JOB", "job show JOB", "pool list",
    "pool show default", "regrade list mp2", "regrade show REGRADE", "retention show", "roster show mp1", "run list",
    "run show RUN", "student token list", "submission list mp1", "submission show SUBMISSION", "whoami",
)  # fmt: skip
# They change something, run a service, ask the broker or the host, or write a file: their words come from elsewhere.
OTHERS = {
    "api", "backup", "config", "dispatcher", "doctor", "health", "ingest", "login", "logout", "migrate", "notifier",
    "queue", "restore", "results", "submit", "topology", "up",
}  # fmt: skip
CHANGING = {
    "add", "adjust", "apply", "build-gradescope", "cancel", "choose", "create", "discard", "delete", "download",
    "drain", "export", "forget", "forget-secret", "import", "late-days", "links", "merge", "pause", "ping", "publish",
    "readmit", "redeliver", "refresh", "remove", "replay", "rerun", "resume", "retry", "revoke", "rotate", "run", "set",
    "set-slots", "start", "submit", "undo", "validate", "watch", "withdraw",
}  # fmt: skip
PROGRAM = """
import json, os, sys
os.dup2(2, 0)  # the terminal, which a forked program has no input from
from broadway.cli import terminal
from broadway.cli.app import app
from typer.main import get_command
run = get_command(app)
for command in json.loads(sys.argv[1]):
    with terminal.written():
        try:
            run(command)
        except SystemExit as ended:
            print("\\nended:", command[:2], ended.code, flush=True)
"""


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not hasattr(group, "commands"):
        return [path]
    return [each for name, command in group.commands.items() for each in commands(command, (*path, name))]


def test_every_command_is_listed() -> None:
    read = {
        " ".join(
            part for part in each.split() if part.islower() and part not in ("default", "mp1", "mp2", "lms", "git")
        )
        for each in READS
    }
    missing = [
        " ".join(path)
        for path in commands(get_command(app))
        if " ".join(path) not in read and path[0] not in OTHERS and path[-1] not in CHANGING
    ]
    assert missing == []


async def test_no_command_lets_a_text_of_a_course_reach_the_terminal(
    client: Client, course: str, opened: Connections, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    world = World(client, course, opened)
    hostile = HostileCourse(world)
    await hostile.fill()
    letters = await opened.store.dead_letters.latest(50)
    words = {name.upper(): hostile.parts[name][0] for name in ("regrade", "grader", "submission", "job")}
    words |= {"RUN": world.run, "LETTER": next(each.id for each in letters if "letter" in each.subject)}
    given = [[words.get(part, part) for part in each.split()] for each in READS]
    environment = os.environ | {
        "BROADWAY_SERVER": f"http://127.0.0.1:{ingest_settings.bind_port}",
        "COLUMNS": "2000",  # no word is wrapped
        "BROADWAY_COURSE": course,
        "BROADWAY_COURSE_TOKEN": token_of(course),
        "BROADWAY_OPERATOR_TOKEN": "operator-token",
    }
    shown = await on_a_terminal(given, environment, tmp_path)
    assert shown.count("\nended: [") == len(READS), shown[-2000:]
    assert re.findall("ended: .* [12]$", shown, re.MULTILINE) == []
    without_styles = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    found = {ascii(each) for each in OBEYED if each in without_styles}
    assert not found, [line for line in without_styles.splitlines() if set(OBEYED) & set(line)][:3]
    seen = {
        each
        for each in ("log-line", "adjustment-reason", "letter-reason", "extension-reason", "name-ada")
        if each in shown
    }
    assert len(seen) == 5, seen


async def on_a_terminal(given: list[list[str]], environment: dict[str, str], directory: Path) -> str:
    ours, theirs = pty.openpty()
    program = directory / "program.py"
    program.write_text(PROGRAM)
    with os.fdopen(theirs, "wb") as output:
        process = await fork_server().start(
            (str(program), json.dumps(given)),
            environment=environment,
            directory=directory,
            stdout=output,
            stderr=output,
        )
    parts: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # the end of the terminal's output
            pass

    await asyncio.to_thread(read)
    await process.wait()
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n")
