"""Submissions by webhook, from the command that creates the hook to the results."""

import json
from pathlib import Path
from typing import Any

import httpx2
from harness import Cluster, broadway, stage, until
from pushes import push, signature

SECRET = "a-secret-of-this-hook"
ROSTER = "student,repository,NETID\nalice,cs/alice,a1\nbob,cs/bob,b2\n"


async def send(cluster: Cluster, url: str, body: dict[str, Any], delivery: str) -> httpx2.Response:
    raw = json.dumps(body).encode()
    headers = {"X-GitHub-Delivery": delivery, "X-GitHub-Event": "push", "X-Hub-Signature-256": signature(raw, SECRET)}
    return await cluster.client.http.post(url, content=raw, headers=headers)


async def test_staff_set_up_a_hook_and_see_what_it_receives(cluster: Cluster, tmp_path: Path) -> None:
    cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[stage("env", "NETID")])
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    secret, roster = tmp_path / "secret", tmp_path / "roster.csv"
    secret.write_text(f"{SECRET}\n")
    roster.write_text(ROSTER)

    made = await broadway("hook", "set", "git", "--assignment", "mp1", "--secret-file", str(secret), *access)
    url = made.last_line
    imported = await broadway("roster", "import", "mp1", str(roster), *access)
    assert [made.exit_code, imported.exit_code] == [0, 0], made.output + imported.output
    assert url.endswith("/api/v2/courses/cs241/hooks/git")

    accepted = await send(cluster, url, push("alice"), "d1")
    assert accepted.status_code == httpx2.codes.ACCEPTED
    run = await cluster.client.finished("cs241", accepted.json()["run"])
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"]
    assert "a1" in (await broadway("job", "log", run["jobs"][0]["id"], *access)).stdout

    assert (await send(cluster, url, push("carol"), "d2")).status_code == httpx2.codes.UNPROCESSABLE_CONTENT
    refused = await broadway("hook", "redeliver", "git", "--state", "unmatched", *access)
    assert refused.exit_code == 1
    assert refused.last_line.endswith("repository cs/carol is not in the roster of mp1")
    roster.write_text(f"{ROSTER}carol,cs/carol,c3\n")
    await broadway("roster", "import", "mp1", str(roster), *access)
    again = await broadway("hook", "redeliver", "git", "--state", "unmatched", *access)
    assert (again.exit_code, again.last_line.split("\t")[1]) == (0, "accepted")

    shown = await broadway("hook", "show", "git", "--json", *access)
    deliveries = json.loads(shown.stdout)
    assert [(each["student"], each["state"]) for each in deliveries] == [("carol", "accepted"), ("alice", "accepted")]
    await cluster.client.finished("cs241", deliveries[0]["run"])
    one = await broadway("hook", "show", "git", deliveries[1]["id"], *access)
    assert f"run\t{accepted.json()['run']}" in one.stdout
    listed = await broadway("hook", "list", *access)
    assert listed.last_line.split("\t")[:4] == ["git", "mp1", "github", "main master"]
    assert SECRET not in listed.stdout + shown.stdout + one.stdout
    assert (await broadway("hook", "delete", "git", "--yes", *access)).exit_code == 0


async def test_mistakes_at_the_command_line_are_explained(cluster: Cluster, tmp_path: Path) -> None:
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    short, bad = tmp_path / "secret", tmp_path / "roster.csv"
    short.write_text("short\n")
    bad.write_text("name\nalice\n")
    common = ("git", "--assignment", "mp1", "--secret-file", str(short))

    secret = await broadway("hook", "set", *common, *access)
    quota = await broadway("hook", "set", *common, "--quota", "3", *access)
    nothing = await broadway("hook", "redeliver", "git", *access)
    roster = await broadway("roster", "import", "mp1", str(bad), *access)
    missing = await broadway("roster", "show", "mp1", *access)

    assert (secret.exit_code, "secrets.0" in secret.stderr) == (1, True)
    assert (quota.exit_code, "expected N/SECONDS" in quota.stderr) == (2, True)
    assert (nothing.exit_code, "name deliveries, or give --state" in nothing.stderr) == (2, True)
    assert (roster.exit_code, "line 1: expected a column named student" in roster.stderr) == (1, True)
    assert (missing.exit_code, "this assignment has no roster" in missing.stderr) == (1, True)


async def test_a_later_submission_supersedes_a_waiting_one(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    secret, roster = tmp_path / "secret", tmp_path / "roster.csv"
    secret.write_text(SECRET)
    roster.write_text(ROSTER)
    set_up = ("git", "--assignment", "mp1", "--secret-file", str(secret), "--only-latest")
    url = (await broadway("hook", "set", *set_up, *access)).last_line
    await broadway("roster", "import", "mp1", str(roster), *access)

    runs = [(await send(cluster, url, push("alice"), f"d{n}")).json()["run"] for n in range(3)]
    cluster.graders.start("host1")
    ended = [await cluster.client.finished("cs241", run) for run in runs]

    assert [run["jobs"][0]["outcome"] for run in ended] == ["superseded", "superseded", "succeeded"]

    async def is_backlog_empty() -> bool:
        return await cluster.opened.store.jobs.count_waiting("cs241") == 0

    await until(is_backlog_empty)


async def test_a_roster_of_a_spreadsheet_is_checked_as_the_server_does(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("env", "NETID")])
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    roster = tmp_path / "roster.csv"

    async def imported(data: bytes, *options: str) -> tuple[int, str]:
        roster.write_bytes(data)
        done = await broadway("roster", "import", "mp1", str(roster), *options, *access)
        return done.exit_code, done.stderr

    table = "Student ;Repository ;NETID\r\nZo\u00eb;cs/zoe;z1\r\n"
    for data, options in (
        (table.encode("utf-16"), []),
        (table.encode("utf-8-sig"), []),
        (table.encode("windows-1252"), ["--encoding", "windows-1252"]),
    ):
        assert await imported(data, *options) == (0, "1 student\n")
        shown = await broadway("roster", "show", "mp1", "--json", *access)
        (student,) = json.loads(shown.stdout)["students"]
        assert (student["student"], student["repository"], student["env"]) == ("Zo\u00eb", "cs/zoe", {"NETID": "z1"})

    for data, said in (
        (table.encode("windows-1252"), "line 2: the byte 0xEB is not UTF-8"),
        (b"student,repository\nada,https://git.example.org/cs/ada\n", "repository: expected owner/name"),
        (b"student,A=B\nada,1\n", "cannot name a variable"),
        (b"student,a.b\nada,1\n", "a key must not contain '.' or NUL"),
    ):
        tried, sent = await imported(data, "--dry-run"), await imported(data)
        assert (tried, tried[0], said in tried[1]) == (sent, 1, True), tried
