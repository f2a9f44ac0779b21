"""The commands for extensions, choices and late days, as staff and students type them."""

import json
from pathlib import Path

import pytest
from harness import Client, Command, broadway
from policies import Assignment, at

from broadway.settings.programs import IngestSettings


class Typed:
    """An assignment, and commands about its course."""

    def __init__(self, mp1: Assignment, port: int, home: Path) -> None:
        self.mp1 = mp1
        self.port = port
        self.home = home

    async def types(self, *arguments: str, by: str = "") -> Command:
        access = {"BROADWAY_SERVER": f"http://127.0.0.1:{self.port}", "BROADWAY_COURSE": self.mp1.course}
        secret = {"BROADWAY_COURSE_TOKEN": self.mp1.tokens[by], "XDG_CONFIG_HOME": str(self.home)}
        return await broadway(*arguments, **access, **secret)


@pytest.fixture
async def typed(client: Client, course: str, ingest_settings: IngestSettings, tmp_path: Path) -> Typed:
    mp1 = await Assignment.of_course(client, course)
    await mp1.set_roster({"student": "ada"}, {"student": "bob"})
    return Typed(mp1, ingest_settings.bind_port, tmp_path)


async def test_staff_preview_add_list_and_withdraw_an_extension(typed: Typed) -> None:
    await typed.mp1.set_policy(zone="Europe/Berlin", deadline={"due": "2036-10-25T23:59"})
    target = ("mp1", "--student", "ada")

    preview = await typed.types("extension", "add", *target, "--days", "2", "--dry-run")
    assert preview.stdout.splitlines()[1:] == [
        "ada\t25 Oct 2036, 23:59 CEST\t25 Oct 2036, 23:59 CEST\t27 Oct 2036, 23:59 CET\t27 Oct 2036, 23:59 CET"
    ]

    added = await typed.types("extension", "add", *target, "--days", "2", "--reason", "ill")
    assert (added.exit_code, added.stderr) == (0, "mp1: extension 000000001 for student ada: +2 d\n")
    assert (await typed.types("extension", "list", "mp1")).last_line.split("\t")[1:3] == ["student ada", "+2 d"]

    withdrawn = await typed.types("extension", "withdraw", *target)
    assert withdrawn.stderr == "mp1: the extension for student ada is withdrawn\n"
    assert (await typed.types("extension", "list", "mp1", "--json")).stdout.strip() == "[]"
    assert (await typed.types("extension", "withdraw", *target)).exit_code == 1


async def test_a_student_sees_due_times_and_attempts_and_chooses(typed: Typed) -> None:
    policy = {"deadline": {"due": at(hours=5)}, "attempts": {"total": 2}, "counts": "chosen"}
    days = {"per_assignment": 1, "per_course": 3, "spend": "claimed"}
    await typed.mp1.set_policy(**policy, late_days=days)
    await typed.mp1.give_token("ada")
    made = (await typed.mp1.hand_in(by="ada")).json()["id"]

    listed = await typed.types("assignment", "list", by="ada")
    due = (await typed.mp1.standing())["due"]["text"]
    closes = (await typed.mp1.standing())["closes"]["text"]
    assert listed.stdout.splitlines()[1:] == [f"mp1\t{due}\t{closes}\t1\t3\t1\topen"]
    assert (await typed.types("assignment", "list", "--student", "ada")).stdout == listed.stdout
    assert (await typed.types("assignment", "list")).stdout == "mp1\n"

    chosen = await typed.types("submission", "choose", "mp1", made, by="ada")
    assert (chosen.exit_code, chosen.stderr) == (0, f"mp1: {made} counts for ada\n")
    taken_back = await typed.types("submission", "choose", "mp1", "--none", "--json", by="ada")
    assert json.loads(taken_back.stdout)["chosen"] is None
    claimed = await typed.types("submission", "late-days", "mp1", "1", by="ada")
    assert claimed.stderr == "mp1: 1 late days of 3 are claimed for ada\n"


async def test_a_refused_submission_ends_with_the_reason(typed: Typed, tmp_path: Path) -> None:
    await typed.mp1.set_policy(deadline={"due": at(hours=-1)})
    file = tmp_path / "main.c"
    file.write_text("int main(void) {}")

    done = await typed.types("submit", "mp1", str(file), "--student", "bob")

    assert done.exit_code == 1
    assert "the assignment closed at " in done.stderr
