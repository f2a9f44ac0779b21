"""The control plane and graders as processes, as operators start them, with a real container engine."""

import asyncio
import contextlib
import io
import json
import sys
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import Places
from harness import Client, free_port, until
from processes import QUICK_DISPATCHER, Processes, processes
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

TOKEN, OPERATOR_TOKEN = "cluster-token", "operator-token"


@dataclass
class Host:
    running: Processes
    client: Client
    api_host: str
    image: str
    engine: docker.APIClient

    async def grader(self, name: str, *flags: str) -> None:
        command = ("-m", "broadway.grader", TOKEN, name, "--api-host", self.api_host, "--slots", "2", *flags)
        await self.running.start(name, sys.executable, *command, without="BROADWAY_AMQP_URL")

    def containers(self) -> list[dict[str, Any]]:
        """Return Broadway's containers in any state."""
        found: list[dict[str, Any]] = self.engine.containers(all=True, filters={"label": "io.broadway.grader"})
        return found

    def shell(self, script: str, **more: Any) -> dict[str, Any]:
        return {"image": self.image, "entrypoint": ["sh", "-c", script], "networking": False, **more}


@pytest.fixture(scope="module")
async def control_plane(
    places: Places, docker_host: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[dict[str, str], Path, str]]:
    """A control plane for all tests of this module: the variables of its programs, their directory, and its address."""
    directory = tmp_path_factory.mktemp("control-plane")
    courses = directory / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    port, tokens = str(free_port()), ("--token", TOKEN, "--operator-token", OPERATOR_TOKEN)
    async with places() as place:
        environment = {**place.environment, "DOCKER_HOST": docker_host}
        async with processes(directory / "host", environment) as running:
            files = ("--course-config", str(courses), "--bind-port", port)
            await running.service("api", *tokens, *files, *QUICK_DISPATCHER)
            yield environment, running.directory, f"http://localhost:{port}"


@pytest.fixture
async def host(
    control_plane: tuple[dict[str, str], Path, str], busybox_image: str, api: docker.APIClient
) -> AsyncIterator[Host]:
    """A host whose graders end with the test. A later grader of the same name has its identity, in the directory."""
    environment, directory, address = control_plane
    async with processes(directory, environment) as running, Client.connect(address) as client:
        await until(client.is_ready)
        yield Host(running, client, address, busybox_image, api)
        for name in [name for name, process in running.running.items() if process.returncode is None]:
            await running.terminate(name)


async def test_a_grader_with_its_own_runtime_runs_jobs_in_it(host: Host) -> None:
    await host.grader("sandboxed", "--runtime", "runsc")
    await host.client.register("cs241", "mp1", students=[host.shell("dmesg; cat /proc/version", timeout=30)])

    run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    log = await host.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")
    assert (job["outcome"], job["grader"]) == ("succeeded", "sandboxed")
    assert "gVisor" in log.json()["data"]["stdout"]
    headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    graders = (await host.client.http.get("/api/v2/graders", headers=headers)).json()["graders"]
    found = [(each["id"], each["pool"], each["runtime"]) for each in graders]
    assert ("sandboxed", "default", "runsc") in found


async def test_a_class_is_graded_in_containers(host: Host) -> None:
    await host.grader("host1")
    await host.client.register(
        "cs241",
        "mp1",
        students=[
            host.shell("echo $STUDENT_ID > /job/student; hostname", hostname="grading"),
            host.shell("cat /job/student; test $(cat /job/student) != s1"),
        ],
        pre_processing_pipeline=[host.shell("echo preparing; echo aside >&2")],
        post_processing_pipeline=[host.shell("echo $GRADING_RUN_ID")],
    )

    run_id = await host.client.submit("cs241", "mp1", students=4)
    run = await host.client.finished("cs241", run_id)

    outcomes = [job["outcome"] for job in run["jobs"]]
    assert outcomes == ["succeeded", "succeeded", "failed", "succeeded", "succeeded", "succeeded"]
    assert run["jobs"][2]["reason"] == "stage 2 of 2: exit code 1"
    logs = [await host.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241") for job in run["jobs"]]
    texts = [answer.json()["data"]["stdout"] for answer in logs]
    assert "preparing" in texts[0]
    assert "aside" in texts[0]
    assert "grading" in texts[1]
    assert "s0" in texts[1]
    assert run_id in texts[-1]
    await until(lambda: host.containers() == [])


BURN = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo burnt; echo aside >&2"


async def test_a_job_has_the_facts_of_every_stage(host: Host) -> None:
    """Check every field of a stage that succeeds, one that is killed, and one that does not run."""
    await host.grader("host1")
    stages = [
        host.shell(BURN),
        host.shell("exec sleep 100", timeout=1, untrusted=True),
        host.shell("exit 0"),
    ]
    await host.client.register("cs241", "mp1", students=stages)
    run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=1))

    path = f"courses/cs241/jobs/{run['jobs'][0]['id']}"
    job = (await host.client.get(path, token="staff-241", version="v2")).json()
    assert (job["outcome"], job["reason"]) == ("timed_out", "stage 2 of 3: ran longer than its time limit")
    assert 0 <= job["queue_seconds"] < job["seconds"] + 60
    usages = [stage.pop("usage") for stage in job["stages"]]
    ended = {"killed": False, "killed_for": None, "exit_code": 0, "signal": None, "out_of_memory": False}
    killed = {"killed": True, "killed_for": "time", "exit_code": 137, "signal": 9, "out_of_memory": False}
    times = [(stage.pop("started_at"), stage.pop("finished_at")) for stage in job["stages"]]
    assert times.pop() == (None, None)
    assert job["started_at"] <= times[0][0] <= times[0][1] <= times[1][0] <= times[1][1] <= job["finished_at"]
    assert [stage.pop("refused_results") for stage in job["stages"]] == [None] * 3
    reasons = [stage.pop("reason") for stage in job["stages"]]
    assert reasons == ["", job["reason"], ""]
    assert job["stages"] == [
        {"image": host.image, "untrusted": False, "success": True, **ended},
        {"image": host.image, "untrusted": True, "success": False, **killed},
        {"image": host.image, "untrusted": False, "success": None, **dict.fromkeys(ended)},
    ]
    assert usages.pop() is None
    for usage in usages:
        assert usage.pop("image") == host.engine.inspect_image(host.image)["Id"]
        assert 0 <= usage.pop("pull_seconds") < job["seconds"]
        assert 0 < usage.pop("create_seconds") < job["seconds"]
        assert 0 < usage.pop("start_seconds") < job["seconds"]
    burnt, slept = usages
    if host.engine.info()["CgroupDriver"] == "cgroupfs":
        assert 0.01 < burnt["cpu_seconds"] <= job["seconds"]
        assert 0 < slept["cpu_seconds"] < 1
        assert all(100_000 < each["peak_memory"] < 2**30 for each in usages)
    assert 0.01 < burnt["wall_seconds"] < job["seconds"]
    assert 0.9 < slept["wall_seconds"] < job["seconds"]
    assert [each["output_bytes"] for each in usages] == [len("burnt\naside\n"), 0]
    assert all(each.keys() == {"cpu_seconds", "peak_memory", "wall_seconds", "output_bytes"} for each in usages)


async def test_stages_before_a_fault_are_reported(host: Host) -> None:
    await host.grader("host1")
    await host.client.register("cs241", "mp1", students=[host.shell(BURN), host.shell("", entrypoint=["/no/program"])])
    run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=1))

    path = f"courses/cs241/jobs/{run['jobs'][0]['id']}"
    job = (await host.client.get(path, token="staff-241", version="v2")).json()
    assert (job["outcome"], job["fault_phase"]) == ("infrastructure_error", "start")
    first, second = job["stages"]
    assert (first["success"], first["exit_code"], first["usage"]["output_bytes"]) == (True, 0, 12)
    assert (second["success"], second["exit_code"], second["usage"]) == (False, None, None)


async def test_a_killed_grader_leaves_neither_a_job_nor_a_container(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host.running.environment["DOCKER_HOST"])
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    await host.grader("doomed")
    await host.client.register("cs241", "mp1", students=[host.shell("sleep 4")])
    with DockerContainer(host.image).with_command("sleep 600") as neighbour:
        run_id = await host.client.submit("cs241", "mp1", students=2)
        await until(lambda: len([c for c in host.containers() if c["State"] == "running"]) == 2)
        orphans = {container["Id"] for container in host.containers()}

        async def are_starts_recorded() -> bool:
            jobs = (await host.client.describe("cs241", run_id))["jobs"]
            return [job["state"] for job in jobs] == ["running"] * 2

        await until(are_starts_recorded)
        await host.running.kill("doomed")
        await host.grader("heir")
        run = await host.client.finished("cs241", run_id)

        assert [(job["outcome"], job["grader"]) for job in run["jobs"]] == [("succeeded", "heir")] * 2
        assert {job["attempts"] for job in run["jobs"]} == {2}
        await until(lambda: host.containers() == [])
        assert neighbour.get_wrapped_container().id not in orphans
        neighbour.get_wrapped_container().reload()
        assert neighbour.get_wrapped_container().status == "running"
    jobs = host.running.directory / "broadway-work" / "jobs"
    await until(lambda: list(jobs.glob("*/doomed/*/*")) == list(jobs.glob("*/*/*/*/*")) == [])


@pytest.mark.long  # tests/hostile has the same and more
async def test_hostile_submissions_harm_no_other_job(host: Host) -> None:
    await host.grader("host1", "--output-limit", "1000000", "--pids-limit", "64")
    by_student = """
        case $STUDENT_ID in
        s0) sleep 100 ;;
        s1) yes ;;
        s2) tail /dev/zero ;;
        s3) f() { f | f & }; f; sleep 100 ;;
        s4) sh -c 'kill -9 $$'; exit $? ;;
        s5) rm -rf /job/* / 2>/dev/null; exit 7 ;;
        esac
    """
    await host.client.register("cs241", "mp1", students=[host.shell(by_student, timeout=4, memory="32m")])

    run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=9))

    outcomes = [job["outcome"] for job in run["jobs"]]
    assert outcomes[:3] == ["timed_out", "output_limit", "out_of_memory"]
    assert outcomes[3] in ("timed_out", "failed", "out_of_memory"), "a fork bomb ends, one way or another"
    assert outcomes[4:6] == ["failed", "failed"]
    assert outcomes[6:] == ["succeeded"] * 3
    await until(lambda: host.containers() == [])


TLS = b"\x16"  # the first byte of a handshake


@contextlib.asynccontextmanager
async def empty_registry() -> AsyncIterator[str]:
    """Serve a registry without images; yield its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while (first := await reader.readexactly(1)) != TLS:  # the engine tries that first, and would wait 10 s
                head = first + await reader.readuntil(b"\r\n\r\n")
                status, body = b"404 Not Found", b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}'
                if head.split()[1] == b"/v2/":
                    status, body = b"200 OK", b"{}"
                kind = b"Content-Type: application/json\r\nContent-Length: %d" % len(body)
                writer.write(
                    b"HTTP/1.1 %s\r\n%s\r\n\r\n" % (status, kind) + (b"" if head.startswith(b"HEAD") else body)
                )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"
        server.close()


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_missing_image_is_named_and_retried_only_if_its_registry_is_unavailable(
    host: Host, is_away: bool
) -> None:
    await host.grader("host1", "--allow-local-registries")
    async with empty_registry() as address:
        image = f"{'localhost:1' if is_away else address}/no-such-image:1"
        await host.client.register("cs241", "mp1", students=[{"image": image}])
        run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    assert (job["outcome"], job["fault_phase"]) == ("infrastructure_error", "pull")
    assert job["attempts"] == (3 if is_away else 1)
    assert image in job["reason"]


@pytest.mark.parametrize("entrypoint", ["no-such-program", pytest.param("/etc", marks=pytest.mark.long)])
async def test_a_missing_entrypoint_is_named_and_not_retried(host: Host, entrypoint: str) -> None:
    await host.grader("host1")
    await host.client.register("cs241", "mp1", students=[host.shell("", entrypoint=[entrypoint])])

    run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    assert (job["outcome"], job["fault_phase"], job["attempts"]) == ("infrastructure_error", "start", 1)
    assert entrypoint in job["reason"]


async def test_a_wrong_cluster_token_is_reported(host: Host) -> None:
    command = ("-m", "broadway.grader", "wrong-token", "stranger", "--api-host", host.api_host)
    await host.running.start("stranger", sys.executable, *command, without="BROADWAY_AMQP_URL")

    assert await host.running.running["stranger"].wait() == 1
    assert "refuses this token" in host.running.log("stranger")
    assert "wrong-token" not in host.running.log("stranger")


@pytest.mark.parametrize("runtime", [pytest.param("docker", marks=pytest.mark.long), "oci"])
async def test_programs_in_containers_find_the_files_of_their_own_submission(host: Host, runtime: str) -> None:
    await host.grader("host1", *(("--runtime", "oci") if runtime == "oci" else ()))
    script = "cd /job/submission && sha256sum src/main.c && stat -c '%a %n' run.sh"
    stages = [
        host.shell(script, timeout=30),
        host.shell(f"{script} && ! touch new", timeout=30, untrusted=True, read=["submission"]),
    ]
    await host.client.register("cs241", "mp1", students=stages)
    contents = {student: student.encode() * 1000 for student in ("ada", "bob", "eve")}

    made = await asyncio.gather(*(_hand_in(host, student, content) for student, content in contents.items()))

    for run_id, content in zip(made, contents.values(), strict=True):
        (job,) = (await host.client.finished("cs241", run_id))["jobs"]
        log = (await host.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")).json()["data"]["stdout"]
        assert job["outcome"] == "succeeded", log
        assert log.count(f"{sha256(content).hexdigest()}  src/main.c") == len(stages)
        assert log.count("755 run.sh") == len(stages)


async def _hand_in(host: Host, student: str, content: bytes) -> str:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("src/main.c", content)
        program = zipfile.ZipInfo("run.sh")
        program.create_system, program.external_attr = 3, 0o100755 << 16
        archive.writestr(program, "true")
    answer = await host.client.http.post(
        f"/api/v2/courses/cs241/assignments/mp1/submissions?student={student}",
        content=body.getvalue(),
        headers={"Authorization": "Bearer staff-241", "Content-Type": "application/zip"},
    )
    assert answer.status_code == 201, answer.text
    path = f"/api/v2/courses/cs241/submissions/{answer.json()['id']}"

    async def run_id() -> str:
        shown = await host.client.http.get(path, headers={"Authorization": "Bearer staff-241"})
        return str(shown.json()["run_id"] or "")

    return await until(run_id)  # type: ignore[no-any-return]


AUTOGRADES = r"""
score=$(cat /autograder/submission/answer.txt)
title=$(sed -n 's/.*"title": "\(.*\)".*/\1/p' /autograder/submission_metadata.json)
printf '{"score": %s, "output": "%s"}' "$score" "$title" >/autograder/results/results.json
exit 1
"""


@pytest.mark.parametrize("runtime", [pytest.param("default", marks=pytest.mark.long), "oci"])
async def test_an_uploaded_submission_is_graded_by_an_autograder_of_gradescope(host: Host, runtime: str) -> None:
    staff, courses = {"Authorization": "Bearer staff-241"}, "/api/v2/courses/cs241"
    await host.grader("harness", *(() if runtime == "default" else ("--runtime", runtime)))
    stage = {"image": host.image, "kind": "gradescope", "entrypoint": ["sh", "-c", AUTOGRADES], "memory": "64m"}
    await host.client.register("cs241", "mp1", students=[stage])

    handed_in = await host.client.http.post(
        f"{courses}/assignments/mp1/submissions",
        params={"student": "ada"},
        files=[("files", ("answer.txt", b"42"))],
        headers=staff,
    )

    assert handed_in.status_code == 201, handed_in.text
    (job,) = (await host.client.finished("cs241", handed_in.json()["run_id"]))["jobs"]
    assert (job["outcome"], job["reason"]) == ("succeeded", "")
    found = (await host.client.http.get(f"{courses}/jobs/{job['id']}/report", headers=staff)).json()
    assert (found["report"]["source"], found["report"]["score"]) == ("gradescope", "42")
    assert [message["body"] for message in found["report"]["messages"]] == ["mp1"]
    assert host.containers() == []


@pytest.mark.parametrize(
    "flags", [(), pytest.param(("--runtime", "oci"), marks=pytest.mark.long)], ids=["docker", "oci"]
)
async def test_artifacts_come_back_from_containers(host: Host, flags: tuple[str, ...]) -> None:
    await host.grader("host1", *flags)
    leaves = "mkdir /job/out && head -c 3000000 /dev/zero >/job/out/plot.png && ln -s /etc/passwd /job/out/link; exit 3"
    stages = [
        host.shell("echo 42 >/job/out/of-student", untrusted=True, write=["out"]),
        host.shell("cp /job/out/of-student /job/copy && touch /job/tr\u00e9s", artifacts=["out/*", "*"]),
        host.shell(leaves.replace("/job/out", "/job/left"), artifacts=["left/*"], logs=False),
    ]
    for stage in stages:
        stage.setdefault("timeout", 30)
    stages[0].pop("networking")
    await host.client.register("cs241", "mp1", students=stages)

    run = await host.client.finished("cs241", await host.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    assert (job["outcome"], job["reason"]) == ("failed", "stage 3 of 3: exit code 3")
    path, headers = f"/api/v2/courses/cs241/jobs/{job['id']}/artifacts", {"Authorization": "Bearer staff-241"}
    listed = (await host.client.http.get(path, headers=headers)).json()
    found = {file["path"]: (file["stage"], file["size"]) for file in listed["files"]}
    assert found == {"copy": (1, 3), "out/of-student": (1, 3), "tr\u00e9s": (1, 0), "left/plot.png": (2, 3_000_000)}
    assert listed["left_out"] == [{"path": "left/link", "reason": "is a link"}]
    plot = await host.client.http.get(f"{path}/left/plot.png", headers=headers)
    assert plot.content == bytes(3_000_000)
