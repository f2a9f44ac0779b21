"""The commands for grades, as staff and students type them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from classes import Class, HandIn
from harness import Client, Command, broadway, token_of

from broadway.mongo.store import Store
from broadway.settings.programs import IngestSettings

DUE = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Typed:
    """Commands about an assignment whose class has two students."""

    def __init__(self, group: Class, port: int, home: Path) -> None:
        self.group = group
        self.home = home
        self.server = f"http://127.0.0.1:{port}"

    async def types(self, *arguments: str, token: str = "") -> Command:
        access = {"BROADWAY_SERVER": self.server, "BROADWAY_COURSE": self.group.course}
        secret = {"BROADWAY_COURSE_TOKEN": token or token_of(self.group.course), "XDG_CONFIG_HOME": str(self.home)}
        return await broadway("grades", *arguments, **access, **secret)


@pytest.fixture
async def typed(client: Client, store: Store, course: str, ingest_settings: IngestSettings, tmp_path: Path) -> Typed:
    assert client
    group = Class(store, course)
    await group.prepare(["ada", "bob"], {"points": 10})
    await group.hand_in(HandIn("ada", DUE, score="7"))
    return Typed(group, ingest_settings.bind_port, tmp_path)


async def test_staff_adjust_publish_and_take_back(typed: Typed) -> None:
    draft = await typed.types("show", "mp1", "--draft")
    assert draft.stderr == "mp1: draft, 2 students (1 graded, 1 not submitted); nothing is published\n"
    assert draft.stdout.splitlines()[1:] == [
        "ada\tgraded\t7\t10\t2026-11-20T12:00:00Z\t0\t0",
        "bob\tnot_submitted\t\t10\t\t0\t0",
    ]
    missing = await typed.types("show", "mp1")
    assert (missing.exit_code, "no grades of this assignment are published" in missing.stderr) == (1, True)

    adjusted = await typed.types("adjust", "mp1", "ada", "--add", "-1.5", "--reason", "copied a line")
    assert adjusted.stderr == "mp1: the grade of ada is adjusted; publish the grades to show it\n"
    published = await typed.types("publish", "mp1", "--note", "Well done.", "--reason", "first")
    assert published.stderr == "mp1: published as version 1, for 2 students\n"
    shown = await typed.types("show", "mp1", "--student", "ada")
    assert shown.stdout.splitlines() == [
        "Submission 1 of 1 (20 Nov 2026, 12:00 UTC) counts.",
        "Tests: 7 of 10 points.",
        "Adjustment: 7 - 1.5 = 5.5. Reason: copied a line",
        "Grade: 5.5 of 10 points.",
        "Note: Well done.",
    ]
    assert (await typed.types("withdraw", "mp1", adjusted.last_line)).exit_code == 0
    assert (await typed.types("adjustments", "mp1")).last_line.startswith(f"{adjusted.last_line}\tada\tpoints\t-1.5")

    late = await typed.types("publish", "mp1", "--based-on", "0")
    assert late.exit_code == 1
    assert "version 1 is published, not version 0" in late.stderr
    undone = await typed.types("undo", "mp1", "--reason", "too early")
    assert undone.stderr == "mp1: students see no grades\n"
    after = await typed.types("show", "mp1")
    assert after.stderr == "mp1: version 2, no grades; version 2 is published\n"
    history = json.loads((await typed.types("history", "mp1", "--json")).stdout)
    assert [(each["number"], each["made_from"], each["reason"]) for each in history] == [
        (2, "undo", "too early"),
        (1, "draft", "first"),
    ]


async def test_a_student_sees_the_own_published_grade(typed: Typed, client: Client) -> None:
    headers = {"Authorization": f"Bearer {token_of(typed.group.course)}"}
    path = f"/api/v2/courses/{typed.group.course}/student-tokens"
    token = (await client.http.post(path, json={"student": "ada"}, headers=headers)).json()["token"]
    assert (await typed.types("publish", "mp1")).exit_code == 0

    own = await typed.types("show", "mp1", token=token)

    assert own.last_line == "Grade: 7 of 10 points."
    grade = json.loads((await typed.types("show", "mp1", "--json", token=token)).stdout)["grade"]
    assert own.stderr.splitlines()[-1] == f"`broadway job report {grade['job']}` shows the results of the tests"
    assert (await typed.types("show", "mp1", "--student", "bob", token=token)).exit_code == 4
    assert (await typed.types("publish", "mp1", token=token)).exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("adjust", "mp1", "ada", "--reason", "r"), "expected one of --add, --final and --excused"),
        (("adjust", "mp1", "ada", "--add", "1", "--excused", "--reason", "r"), "expected one of --add, --final"),
        (("adjust", "mp1", "ada", "--add", "much", "--reason", "r"), "points: "),
        (("adjust", "mp1", "ada", "--final", "-1", "--reason", "r"), "points: expected at least 0"),
        (("show", "mp1", "--draft", "--version", "1"), "expected --draft or --version, not both"),
    ],
    ids=["nothing", "two", "no number", "below 0", "two versions"],
)
async def test_a_command_without_sense_ends_with_usage(typed: Typed, arguments: tuple[str, ...], said: str) -> None:
    done = await typed.types(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
