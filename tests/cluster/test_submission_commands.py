"""The commands for handing in and for assignments, as staff and students type them."""

import json
import stat
import zipfile
from pathlib import Path

import pytest
from harness import Cluster, Command, broadway, stage

FILE = {
    "student_pipeline": [stage("read", "submission/src/main.c")],
    "settings": {"points": 10, "files": {"required": ["src/*.c"]}},
}


class Person:
    """A person with a home directory, who types commands."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        self.cluster = cluster
        self.home = home
        self.server = f"http://127.0.0.1:{cluster.settings.bind_port}"

    async def types(self, *arguments: str) -> Command:
        return await broadway(*arguments, XDG_CONFIG_HOME=str(self.home))

    async def logs_in(self, token: str, course: str = "cs241") -> Command:
        typed = self.home.with_suffix(".typed")
        typed.write_text(f"{token}\n")
        return await broadway(
            *("login", "--server", self.server, "--course", course), stdin=str(typed), XDG_CONFIG_HOME=str(self.home)
        )


@pytest.fixture
async def staff(cluster: Cluster, tmp_path: Path) -> Person:
    person = Person(cluster, tmp_path / "staff")
    assert (await person.logs_in("staff-241")).exit_code == 0
    file = tmp_path / "mp1.json"
    file.write_text(json.dumps(FILE))
    applied = await person.types("assignment", "apply", "mp1", str(file))
    assert (applied.exit_code, applied.stderr) == (0, "mp1: pipelines stored, settings version 1\n")
    return person


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A student's directory."""
    work = tmp_path / "mp1"
    (work / "src").mkdir(parents=True)
    (work / "src" / "main.c").write_text("int main(void) {}")
    (work / ".git").mkdir()
    (work / ".git" / "config").write_text("[core]")
    return work


async def test_a_student_hands_in_a_directory_and_waits_for_the_outcome(
    cluster: Cluster, staff: Person, work: Path, tmp_path: Path
) -> None:
    cluster.graders.attach("host1", staff.server)
    roster = {"students": [{"student": "ada"}]}
    headers = {"Authorization": "Bearer staff-241"}
    await cluster.client.http.put("/api/v2/courses/cs241/assignments/mp1/roster", json=roster, headers=headers)
    made = await staff.types("student", "token", "add", "ada")
    ada = Person(cluster, tmp_path / "ada")
    assert (await ada.logs_in(made.stdout.strip())).exit_code == 0

    handed_in = await ada.types("submit", "mp1", str(work), "--watch")

    assert handed_in.exit_code == 0, handed_in.stderr
    identity = handed_in.stdout.strip()
    assert handed_in.stderr.splitlines()[-1] == "succeeded"
    listed = await ada.types("submission", "list", "mp1")
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["id", identity]
    shown = json.loads((await ada.types("submission", "show", identity, "--json")).stdout)
    assert ([file["path"] for file in shown["files"]], shown["job"]["outcome"]) == (["src/main.c"], "succeeded")
    who = await ada.types("whoami", "--json")
    assert json.loads(who.stdout)["student"] == "ada"
    outsider = await ada.types("assignment", "show", "mp1")
    assert outsider.exit_code == 4
    assert outsider.stderr.startswith("broadway: invalid token: it is no token of cs241 at ")


async def test_staff_start_a_run_for_some_students_and_follow_it(
    cluster: Cluster, staff: Person, work: Path, tmp_path: Path
) -> None:
    cluster.graders.attach("host1", staff.server)
    roster = tmp_path / "roster.csv"
    roster.write_text("student\nada\ngrace\n")
    assert (await staff.types("roster", "import", "mp1", str(roster))).exit_code == 0
    assert (await staff.types("submit", "mp1", str(work), "--student", "ada", "--watch")).exit_code == 0

    planned = await staff.types("run", "submit", "mp1", "--dry-run")
    refused = await staff.types("run", "submit", "mp1", "--student", "edsger")
    started = await staff.types("run", "submit", "mp1", "--student", "ada", "--key", "again", "--watch")
    repeated = await staff.types("run", "submit", "mp1", "--student", "ada", "--key", "again")
    watched = await staff.types("run", "watch", started.stdout.strip()[:12], "--exit-status", "--timeout", "60")
    listed = await staff.types("run", "list", "--assignment", "mp1")
    shown = await staff.types("run", "show", started.stdout.strip())

    assert [line.split("\t")[0] for line in planned.stdout.splitlines()] == ["student", "ada", "grace"]
    assert (refused.exit_code, "edsger is not in the roster of mp1" in refused.stderr) == (1, True)
    assert (started.exit_code, started.stderr.splitlines()[-1]) == (0, "finished"), started.stderr
    assert repeated.stdout == started.stdout
    assert watched.exit_code == 0, watched.stderr
    assert watched.stdout.splitlines()[1].split("\t")[:4] == ["students", "finished", "1", "1 succeeded"]
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [row[:5] for row in rows[1:2]] == [[started.stdout.strip(), "mp1", "", "finished", "yes"]]
    assert [row[2] for row in rows[2:]] == ["ada"], "the run of her submission"
    assert shown.stdout.splitlines()[1].split("\t")[1] == "ada"


async def test_files_are_downloaded_and_never_overwrite(staff: Person, work: Path, tmp_path: Path) -> None:
    identity = (await staff.types("submit", "mp1", str(work), "--student", "ada")).stdout.strip()
    one, all_of_them = tmp_path / "one", tmp_path / "all.zip"

    assert (await staff.types("submission", "download", identity, "src/main.c", "-o", str(one))).exit_code == 0
    assert (await staff.types("submission", "download", identity, "-o", str(all_of_them))).exit_code == 0
    again = await staff.types("submission", "download", identity, "src/main.c", "-o", str(one))

    into = await staff.types("submission", "download", identity, "src/main.c", "-o", str(tmp_path))

    assert (into.exit_code, (tmp_path / "main.c").read_text()) == (0, "int main(void) {}")
    assert one.read_text() == "int main(void) {}"
    assert zipfile.ZipFile(all_of_them).namelist() == ["src/main.c"]
    assert (again.exit_code, again.stderr) == (1, f"broadway: {one} exists; remove it, or name another file\n")
    missing = await staff.types("submission", "download", identity, "none", "-o", str(tmp_path / "none"))
    assert (missing.exit_code, missing.stderr) == (1, "broadway: this submission has no such file\n")
    assert not (tmp_path / "none").exists()


async def test_a_refusal_is_a_sentence(staff: Person, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("x")
    refused = await staff.types("submit", "mp1", str(tmp_path / "notes"), "--student", "ada")
    assert (refused.exit_code, refused.stderr) == (1, "broadway: src/*.c is missing; the files are notes\n")
    unnamed = await staff.types("submit", "mp1", str(tmp_path / "notes"))
    assert "student: expected the student" in unnamed.stderr


async def test_a_submission_that_is_not_graded_by_decision_fails_the_command(
    staff: Person, work: Path, tmp_path: Path
) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("student\nada\n")
    assert (await staff.types("roster", "import", "mp1", str(roster))).exit_code == 0

    done = await staff.types("submit", "mp1", str(work), "--student", "edsger")

    assert (done.exit_code, len(done.stdout.strip()) > 0) == (1, True)
    assert done.stderr == "1 file of edsger, 17 bytes: unmatched: student edsger is not in the roster of mp1\n"


async def test_an_assignment_is_checked_without_a_server_and_shown_as_it_is_applied(
    staff: Person, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({**FILE, "settings": {"points": -1}}))

    checked = await staff.types("assignment", "validate", str(wrong))
    shown = json.loads((await staff.types("assignment", "show", "mp1")).stdout)

    assert checked.exit_code == 1
    assert "settings.points" in checked.stderr
    assert shown["settings"]["files"]["required"] == ["src/*.c"]
    again = tmp_path / "again.json"
    again.write_text(json.dumps(shown))
    applied = await staff.types("assignment", "apply", "mp1", str(again))
    assert applied.exit_code == 0, applied.stderr
    assert (await staff.types("assignment", "list")).stdout == "mp1\n"


async def test_a_login_is_private_and_for_its_own_server_and_course(staff: Person) -> None:
    file = staff.home / "broadway" / "logins.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    elsewhere = await staff.types("assignment", "list", "--server", "http://127.0.0.1:9")
    other_course = await staff.types("assignment", "list", "--course", "cs101")
    wrong_token = await staff.logs_in("wrong")
    foreign = await staff.logs_in("staff-101")

    assert (elsewhere.exit_code, "no course" in elsewhere.stderr) == (2, True)
    assert (other_course.exit_code, "no token for cs101" in other_course.stderr) == (4, True)
    assert (wrong_token.exit_code, foreign.exit_code) == (4, 2)
    assert (await staff.types("assignment", "list")).exit_code == 0, "the login before is kept"
    assert (await staff.types("logout")).exit_code == 0
    assert (await staff.types("assignment", "list")).exit_code == 2
    assert (await staff.types("logout")).exit_code == 1
