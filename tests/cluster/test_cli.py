"""The command line for course staff, against a cluster."""

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence

from harness import Cluster, broadway, free_port, stage

# The outcome of a rerun, with the digest of the config.
AGAIN = r"; with the assignment's current config \([0-9a-f]{12}\)"


async def test_staff_inspect_and_rerun_a_run(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[stage("print", "hello"), stage("exit", "3")])
    run_id = await cluster.client.submit("cs241", "mp1", students=2)
    run = await cluster.client.finished("cs241", run_id)
    url = str(cluster.client.http.base_url)
    access = ("--server", url, "--course", "cs241", "--token", "staff-241")

    shown = await broadway("run", "show", run_id, *access)
    as_json = await broadway("run", "show", run_id, "--json", *access)
    log = await broadway("job", "log", run["jobs"][0]["id"], *access)
    graders = await broadway("grader", "list", "--server", url, "--token", "operator-token")

    assert [result.exit_code for result in (shown, as_json, log, graders)] == [0, 0, 0, 0]
    head, first, _ = shown.stdout.splitlines()
    columns = ["job", "student", "phase", "outcome", "score", "maximum", "seconds", "attempts", "grader", "why"]
    assert head.split("\t") == columns
    assert first.split("\t")[1:4] == ["s0", "students", "failed"]
    assert first.endswith("host1\tstage 2 of 2: exit code 3")
    assert json.loads(as_json.stdout)["jobs"] == run["jobs"]
    assert "hello" in log.stdout
    head, line = graders.stdout.splitlines()
    assert head.split("\t") == ["id", "host", "pool", "runtime", "state", "running", "jobs", "last seen", "why"]
    assert line.split("\t")[0] == "host1"
    assert line.split("\t")[2:7] == ["default", "default", "online", "0/2", "2"]

    again = await broadway("run", "rerun", run_id, "--failed", *access)
    assert again.exit_code == 0
    assert re.fullmatch(f"2 jobs queued; the run is in students, round 2{AGAIN}", again.last_line)
    await cluster.client.finished("cs241", run_id)
    one = await broadway("job", "rerun", run["jobs"][1]["id"], *access)
    assert re.fullmatch(f"queued; the run is in students, round 3{AGAIN}", one.last_line)
    await cluster.client.finished("cs241", run_id)
    over = await broadway("run", "cancel", run_id, "--yes", *access)
    assert (over.exit_code, over.stderr.splitlines()[-1]) == (1, "broadway: the run is over")


async def test_staff_see_the_report_of_a_job(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    suite = (
        '<testsuite name="s"><testcase name="a"/><testcase name="b"><failure message="no\x1b"/></testcase></testsuite>'
    )
    results = {
        "format": "junit",
        "path": "r*.xml",
        "points": [{"tests": "s.a", "points": 2}, {"tests": "a", "points": 2.5}],
    }
    await cluster.client.register(
        "cs241", "mp1", students=[stage("write", "r.xml", suite), stage("exit", "1", results=results)]
    )
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    job = run["jobs"][0]
    assert job["outcome"] == "succeeded"

    report = await broadway("job", "report", job["id"], *access)
    as_json = await broadway("job", "report", job["id"], "--attempt", "1", "--as-student", "--json", *access)
    shown = await broadway("job", "show", job["id"], *access)
    missing = await broadway("job", "report", job["id"], "--attempt", "2", *access)

    assert [each.exit_code for each in (report, as_json, shown, missing)] == [0, 0, 0, 2]
    assert report.stdout.splitlines() == [
        "number\ttest\tstatus\tpoints\tmessage",
        "\ta\tpassed\t2.5 of 2.5\t",
        "\tb\tfailed\t0 of 1\tno\ufffd",
    ]
    assert "score: 2.5 of 3.5" in report.stderr
    assert "results file r.xml: " in report.stderr
    found = json.loads(as_json.stdout)
    assert (found["view"], found["report"]["score"], found["files"]) == ("student", "2.5", [])
    assert "score: 2.5 of 3.5" in shown.stderr
    listed = await broadway("run", "show", run["id"], *access)
    assert listed.stdout.splitlines()[1].split("\t")[1:6] == ["s0", "students", "succeeded", "2.5", "3.5"]
    assert shown.stdout.splitlines()[-1].split("\t")[:3] == ["fake", "trusted", "1"]
    await broadway("job", "rerun", job["id"], *access)
    await cluster.client.finished("cs241", run["id"])
    assert "2.5 of 3.5" in (await broadway("job", "report", job["id"], "--attempt", "2", *access)).stderr


async def test_a_log_cannot_control_the_terminal_that_shows_it(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    trick = "\x1b]52;c;cm0gLXJmIC8=\x07\x1b[2Jpassed\u202e\x9b1A\tt\u00e9"
    await cluster.client.register("cs241", "mp1", students=[stage("print", trick)])
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    line = (sys.executable, "-m", "broadway", "job", "log", run["jobs"][0]["id"], *access)

    shown = await asyncio.to_thread(on_a_terminal, line)
    piped = await broadway("job", "log", run["jobs"][0]["id"], *access)

    assert r"\x1b]52;c;cm0gLXJmIC8=\x07\x1b[2Jpassed\u202e\x9b1A" in shown
    assert shown.rstrip().endswith("t\u00e9")
    assert trick in piped.stdout


def on_a_terminal(line: Sequence[str]) -> str:
    """Run a command on a terminal, and return its output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(line, stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL):
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # the end of the terminal's output
            while data := os.read(ours, 4096):
                written += data
    os.close(ours)
    return written.decode()


async def test_staff_cancel_a_job_and_a_run(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=3)
    job_id = (await cluster.client.describe("cs241", run_id))["jobs"][0]["id"]
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")

    one = await broadway("job", "cancel", job_id, "--yes", "--reason", "wrong name", *access)
    assert (one.exit_code, one.last_line) == (0, "cancelled; the run is in students")
    rest = await broadway("run", "cancel", run_id, "--yes", *access)
    assert (rest.exit_code, rest.last_line) == (0, "2 jobs cancelled; the run is failed")
    jobs = (await cluster.client.describe("cs241", run_id))["jobs"]
    assert [job["reason"] for job in jobs] == ["wrong name", *["cancelled by the course staff"] * 2]


async def test_refusals_are_a_line_and_an_exit_code(cluster: Cluster) -> None:
    url = str(cluster.client.http.base_url)
    access = ("--course", "cs241", "--token", "staff-241")

    stranger = await broadway("run", "show", "0" * 24, "--server", url, "--course", "cs241", "--token", "wrong")
    unknown = await broadway("run", "show", "0" * 24, "--server", url, *access)
    unreachable = await broadway(
        "grader", "list", "--server", f"http://127.0.0.1:{free_port()}", "--token", "cluster-token"
    )

    place = "it is no token of cs241 at " + url.rstrip("/")
    said = f"broadway: invalid token: {place}; `broadway whoami` shows whose token it is\n"
    assert (stranger.exit_code, stranger.stderr.replace(f"{url};", f"{url.rstrip('/')};")) == (4, said)
    assert (unknown.exit_code, unknown.stderr) == (1, "broadway: grading run with the given ID not found\n")
    assert unreachable.exit_code == 1
    assert "is it up, and --server right?" in unreachable.stderr


async def test_the_beginning_of_an_id_is_enough(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[stage("print", "hello")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    job_id = (await cluster.client.finished("cs241", run_id))["jobs"][0]["id"]
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")

    shown = await broadway("run", "show", run_id[:6], "--json", *access)
    log = await broadway("job", "log", job_id[:8], *access)
    again = await broadway("job", "rerun", job_id[:12], *access)
    short = await broadway("run", "show", run_id[:5], *access)
    foreign = await broadway("run", "show", run_id[:12], "--server", access[1], "-c", "cs101", "--token", "staff-101")

    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout)["id"] == run_id
    assert "hello" in log.stdout
    assert again.exit_code == 0
    for missing in (short, foreign):
        assert (missing.exit_code, missing.stderr) == (1, "broadway: grading run with the given ID not found\n")
    listed = await cluster.client.get(f"courses/cs241/ids?prefix={job_id[:6]}", token="staff-241", version="v2")
    assert listed.json() == {"runs": [], "jobs": [job_id]}
    refused = await cluster.client.get("courses/cs241/ids?prefix=XYZXYZ", token="staff-241", version="v2")
    assert refused.json()["detail"] == "prefix: should consist of the digits 0 to 9 and a to f"


async def test_a_run_that_graded_no_student_has_not_succeeded(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    pulled = {**stage("exit", "0"), "image": "missing:1"}
    await cluster.client.register("cs241", "mp1", students=[pulled])
    run_id = await cluster.client.submit("cs241", "mp1", students=2)
    run = await cluster.client.finished("cs241", run_id)
    access = ("--server", str(cluster.client.http.base_url), "--course", "cs241", "--token", "staff-241")
    shown = await broadway("run", "show", run_id, *access)
    listed = await cluster.client.get("courses/cs241/runs", token="staff-241", version="v2")

    reason = "every student's job ended as an infrastructure error: students: pull: image missing:1 not found"
    assert (run["state"], run["success"], run["reason"]) == ("finished", False, reason)
    assert [each["success"] for each in listed.json()["items"]] == [False]
    assert shown.stderr == f"cs241/mp1 {run_id}: finished ({reason})\n"
    assert (await cluster.client.status("cs241", run_id))["state"] == "grading run is complete", "as the original says"

    await cluster.client.register("cs241", "mp1", students=[stage("exit", "1")])
    failed = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))
    assert (failed["success"], failed["reason"]) == (True, ""), "a student was graded"
