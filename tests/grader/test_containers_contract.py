"""The promises of every runtime of stages, tested on the fake and on real engines, and details of the latter."""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.transport.unixconn import UnixHTTPConnection
from fake_containers import FakeContainers
from harness import IS_WHOLE, until
from images import busybox

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.grader.ports import (
    ContainerError,
    Containers,
    KilledFor,
    Labels,
    Limits,
    Mount,
    Owner,
    StageRun,
    Upcoming,
)
from broadway.grader.sandbox.engine_features import EngineFeatures
from broadway.grader.sandbox.process_identity import own_identity
from broadway.grader.worker.orphans import Orphans

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (.*)\n")
LIMITS = Limits(pids=32, output=256 * 1024, kept_head=1000, kept_tail=3000, disk=64 * 1024 * 1024)
SLOW = 30  # seconds; longer than any of these stages takes
ONLY_DOCKER = pytest.mark.parametrize("kind", ["docker"])
# Details beyond the contract: in `make faults` on the engine, too, where a container costs three times as much.
FIRST_OCI = pytest.mark.parametrize("kind", [pytest.param("docker", marks=pytest.mark.long), "oci"])

Connect = Run = Callable[..., Any]
Left = Callable[[], list[dict[str, Any]]]
Count = Callable[[], int]


@pytest.fixture
def limits() -> Limits:
    return LIMITS


def texts(run: StageRun) -> list[str]:
    """Return the lines without their timestamps; all lines must be well-formed."""
    assert LINE.sub("", run.output) == ""
    return LINE.findall(run.output)


class Contract(ABC):
    """Stages in the fake's small language, which a real engine's suite translates into shell."""

    @pytest.fixture
    @abstractmethod
    def runtime(self) -> Containers: ...

    @pytest.fixture
    @abstractmethod
    def secluded(self) -> Containers:
        """A runtime whose operator gives stages no network."""

    def stage(self, *words: str, **more: Any) -> Stage:
        return Stage(image="fake", entrypoint=list(words), **more)

    @pytest.fixture
    def run(self, runtime: Containers, directory: Path, labels: Labels) -> Run:
        def run(*words: str, stage: int = 0, upcoming: Upcoming | None = None, **more: Any) -> Any:
            mounts, of_stage = [Mount("/job", directory, read_only=False)], replace(labels, stage=stage)
            return runtime.run(self.stage(*words, **more), mounts=mounts, labels=of_stage, upcoming=upcoming)

        return run

    @pytest.fixture
    def upcoming(self, directory: Path, labels: Labels) -> Upcoming:
        mounts = [Mount("/job", directory, read_only=False)]
        return Upcoming(self.stage("read", "file"), mounts, replace(labels, stage=1))

    async def test_success(self, run: Run) -> None:
        result = await run("exit", "0")
        assert (result.exit_code, result.killed_for, result.oom_killed) == (0, None, False)
        assert (result.output, result.output_bytes) == ("", 0)
        assert result.started_at <= result.finished_at
        assert result.state["ExitCode"] == 0

    async def test_exit_code(self, run: Run) -> None:
        result = await run("exit", "3")
        assert (result.exit_code, result.killed_for) == (3, None)

    async def test_streams_are_kept_apart(self, run: Run) -> None:
        result = await run("print", "hello")
        assert list(result.streams) == [(1, 1)]

    async def test_output_has_times(self, run: Run) -> None:
        assert texts(await run("print", "hello")) == ["hello"]

    async def test_stages_share_the_directory(self, run: Run, directory: Path) -> None:
        await run("write", "note", "from one stage")
        assert texts(await run("read", "note", stage=1)) == ["from one stage"]
        assert (directory / "note").read_text().strip() == "from one stage"

    async def test_environment(self, run: Run) -> None:
        assert texts(await run("env", "GRADING_JOB_ID", env={"GRADING_JOB_ID": "j1"})) == ["j1"]

    async def test_time_limit(self, run: Run) -> None:
        result = await run("hang", timeout=0.3)
        assert (result.exit_code, result.killed_for) == (137, KilledFor.TIME)
        assert 0.2 < (result.finished_at - result.started_at).total_seconds() < SLOW

    async def test_a_stage_within_its_time_is_not_killed(self, run: Run) -> None:
        assert (await run("sleep", "0.1", timeout=20)).killed_for is None

    async def test_output_limit(self, run: Run) -> None:
        before = time.monotonic()
        result = await run("flood", timeout=SLOW)
        assert (result.exit_code, result.killed_for) == (137, KilledFor.OUTPUT)
        if IS_WHOLE:
            assert time.monotonic() - before < SLOW / 2

    async def test_disk_limit(self, run: Run) -> None:
        result = await run("fill", timeout=SLOW)
        assert (result.exit_code, result.killed_for, result.oom_killed) == (137, KilledFor.DISK, False)

    async def test_out_of_memory(self, run: Run) -> None:
        result = await run("oom", memory="32m")
        assert (result.exit_code, result.killed_for, result.oom_killed) == (137, None, True)

    async def test_an_announced_stage_runs(self, run: Run, runtime: Containers, upcoming: Upcoming) -> None:
        assert (await run("write", "file", "from the first", upcoming=upcoming)).exit_code == 0
        second = await runtime.run(upcoming.stage, mounts=upcoming.mounts, labels=upcoming.labels)
        assert texts(second) == ["from the first"]

    async def test_an_announced_stage_that_does_not_run(
        self, run: Run, runtime: Containers, upcoming: Upcoming
    ) -> None:
        assert (await run("exit", "1", upcoming=upcoming)).exit_code == 1
        await runtime.dismiss(upcoming)
        await runtime.dismiss(upcoming)

    async def test_cancelled_while_it_runs(self, run: Run) -> None:
        task = asyncio.create_task(run("hang"))
        await self.has_started()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_stopped_while_it_runs(self, runtime: Containers, directory: Path, labels: Labels) -> None:
        """The output so far is kept, with its streams, as at a limit."""
        heard: list[tuple[int, int, bytes, int]] = []
        stop, mounts = asyncio.Event(), [Mount("/job", directory, read_only=False)]
        stoppable = replace(labels, stop=stop, listener=lambda *lines: heard.append(lines))
        running = asyncio.create_task(
            runtime.run(self.stage("print-and-hang", "so far"), mounts=mounts, labels=stoppable)
        )
        await until(lambda: heard)
        stop.set()
        result = await running
        assert (result.exit_code, result.killed_for) == (137, KilledFor.CANCEL)
        assert (texts(result), list(result.streams)) == (["so far"], [(1, 1)])

    async def test_stopped_before_it_runs(self, runtime: Containers, labels: Labels) -> None:
        stop = asyncio.Event()
        stop.set()
        result = await runtime.run(self.stage("hang"), mounts=[], labels=replace(labels, stop=stop))
        assert result.killed_for is KilledFor.CANCEL

    @pytest.mark.parametrize(("networking", "found"), [(True, "eth0 lo"), (False, "lo")])
    async def test_a_stage_has_a_network_only_if_it_asks_for_one(
        self, run: Run, *, networking: bool, found: str
    ) -> None:
        assert texts(await run("interfaces", networking=networking)) == [found]

    async def test_no_network_if_the_operator_forbids_it(
        self, secluded: Containers, directory: Path, labels: Labels
    ) -> None:
        stage, mounts = self.stage("interfaces", networking=True), [Mount("/job", directory, read_only=False)]
        assert texts(await secluded.run(stage, mounts=mounts, labels=labels)) == ["lo"]

    async def test_missing_image(self, runtime: Containers) -> None:
        with pytest.raises(ContainerError, match="missing/image:1") as raised:
            await runtime.ensure_images(["missing/image:1"])
        assert raised.value.phase is FaultPhase.PULL

    async def test_images_that_are_present(self, runtime: Containers) -> None:
        image = self.stage().image
        pulls = await runtime.ensure_images([image] * 2)
        assert list(pulls) == [image]
        assert 0 <= pulls[image] < SLOW

    async def test_a_container_of_the_graders_own_runs(self, runtime: Containers, labels: Labels) -> None:
        await runtime.try_out(labels)

    async def test_no_orphans(self, runtime: Containers) -> None:
        assert await runtime.remove_orphans(lambda _: False) == 0

    @abstractmethod
    async def has_started(self) -> None: ...


class TestFake(Contract):
    @pytest.fixture
    def runtime(self) -> Containers:
        self.fake = FakeContainers()
        return self.fake

    @pytest.fixture
    def secluded(self) -> Containers:
        return FakeContainers(allow_network=False)

    async def has_started(self) -> None:
        await until(lambda: self.fake.started)

    async def test_fault(self, run: Run) -> None:
        with pytest.raises(ContainerError) as raised:
            await run("fault", "start")
        assert raised.value.phase is FaultPhase.START


SHELL = {
    "exit": 'exit "$1"',
    "print": 'echo "$@"',
    "sleep": 'sleep "$1"',
    "env": 'eval echo "\\$$1"',
    "write": 'echo "$2" > "/job/$1"',
    "read": 'cat "/job/$1"',
    "hang": "sleep 1000",
    "print-and-hang": 'echo "$@"; sleep 1000',
    "flood": "yes",
    "interfaces": "echo $(ip -o addr | awk '{print $2}' | sort -u)",
    "fill": "while dd if=/dev/zero of=/large$i bs=1M count=16; do i=x$i; sleep 0.1; done 2>/dev/null; sleep 1000",
    "oom": "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
}


def sh(script: str, **more: Any) -> Stage:
    given = {"image": "broadway-test-busybox:1", "entrypoint": ["sh", "-c", script], "networking": False, **more}
    return Stage.model_validate(given)


@pytest.fixture
async def real(containers: Containers, left: Left) -> AsyncIterator[Containers]:
    """A real engine, which every test must leave as it was."""
    yield containers
    await until(lambda: not left())


@pytest.fixture
def engine(real: Containers, directory: Path, labels: Labels) -> Run:
    mounts, numbers = [Mount("/job", directory, read_only=False)], itertools.count()
    return lambda stage: real.run(stage, mounts=mounts, labels=replace(labels, stage=next(numbers)))


class TestReal(Contract):
    @pytest.fixture
    def runtime(self, real: Containers, left: Left) -> Containers:
        self.left = left
        return real

    @pytest.fixture
    async def secluded(
        self, kind: str, connect: Connect, connect_oci: Connect, left: Left
    ) -> AsyncIterator[Containers]:
        connect_it = connect if kind == "docker" else connect_oci
        async with connect_it(limits=replace(LIMITS, allow_network=False)) as containers:
            yield containers
            await until(lambda: not left())

    def stage(self, *words: str, **more: Any) -> Stage:
        verb, *arguments = words or ("exit", "0")
        stage = sh(SHELL[verb], **more)
        return stage.model_copy(update={"entrypoint": [*stage.entrypoint, verb, *arguments]})

    async def has_started(self) -> None:
        await until(lambda: [each for each in self.left() if each["State"] == "running"])


@pytest.fixture
def started(directory: Path) -> Callable[[], Any]:
    """Return once a stage has made the file ``started``."""
    return lambda: until((directory / "started").exists)


class TestOutput:
    async def test_both_streams_are_merged(self, engine: Run) -> None:
        run = await engine(sh("echo out; echo err >&2; printf 'no newline'"))
        assert sorted(texts(run)) == ["err", "no newline", "out"]
        assert run.output_bytes == len("out\nerr\nno newline")

    async def test_a_stage_without_logs_is_silent(self, engine: Run) -> None:
        run = await engine(sh("echo out", logs=False))
        assert (run.output, run.output_bytes) == ("", 4)

    async def test_a_flood_is_cut_and_counted(self, engine: Run) -> None:
        run = await engine(sh("yes 0123456789"))
        assert LIMITS.output < run.output_bytes < 2 * LIMITS.output
        assert len(run.output) < LIMITS.kept_head + LIMITS.kept_tail + 100
        assert re.search(r"\n\.\.\. \d+ bytes dropped \.\.\.\n", run.output)

    async def test_an_endless_line_is_cut(self, engine: Run) -> None:
        run = await engine(sh("cat /dev/zero"))
        assert run.killed_for is KilledFor.OUTPUT

    async def test_all_lines_are_heard_as_they_come(self, real: Containers, directory: Path, labels: Labels) -> None:
        """The stored log has a beginning and an end of them; a stage without a log has no listener."""
        heard: list[tuple[int, int, bytes, int]] = []
        listening = replace(labels, listener=lambda *lines: heard.append(lines), stage=3)
        stage = sh("seq 2000; until test -e /job/over; do sleep 0.05; done; printf last")
        mounts = [Mount("/job", directory, read_only=False)]

        running = asyncio.create_task(real.run(stage, mounts=mounts, labels=listening))
        await until(lambda: heard)
        (directory / "over").touch()
        run = await running
        await real.run(stage.model_copy(update={"logs": False}), mounts=mounts, labels=replace(listening, stage=4))

        lines = b"".join(data for _, _, data, _ in heard).split()
        assert lines == [*(str(number).encode() for number in range(1, 2001)), b"last"]
        assert {(number, stream) for number, stream, _, _ in heard} == {(3, 1)}
        assert "bytes dropped" in run.output

    async def test_a_stage_that_closes_its_output_runs_on(self, engine: Run) -> None:
        run = await engine(sh("exec >&- 2>&-; sleep 0.5; exit 7"))
        assert (run.exit_code, run.killed_for) == (7, None)

    async def test_the_time_limit_holds_with_closed_output(self, engine: Run) -> None:
        run = await engine(sh("exec >&- 2>&-; sleep 1000", timeout=0.3))
        assert (run.exit_code, run.killed_for) == (137, KilledFor.TIME)

    @pytest.mark.long  # as test_lines_before_an_endless_loop_are_kept
    async def test_output_of_a_killed_stage_is_kept(self, engine: Run) -> None:
        assert texts(await engine(sh("echo so far; sleep 1000", timeout=3))) == ["so far"]


@FIRST_OCI
class TestTerminal:
    """Output and input of a stage, with a terminal and without one."""

    async def test_lines_before_an_endless_loop_are_kept(self, engine: Run) -> None:
        run = await engine(sh("""exec awk 'BEGIN { print "test 1"; print "test 2"; while (1) { } }'""", timeout=3))
        assert (texts(run), run.killed_for) == (["test 1", "test 2"], KilledFor.TIME)

    async def test_lines_before_an_abort_are_kept(self, engine: Run) -> None:
        # The first process of a container cannot be killed from inside: awk is its child.
        abort = """awk 'BEGIN { print 1; print 2; system("kill -9 $PPID"); while (1) { } }'; exit $?"""
        run = await engine(sh(abort))
        assert (texts(run)[:2], run.exit_code, run.killed_for) == (["1", "2"], 137, None)

    async def test_lines_of_both_streams_are_in_the_order_of_writing(self, engine: Run) -> None:
        run = await engine(sh("i=0; while [ $i -lt 30 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"))
        assert texts(run) == [f"{stream} {number}" for number in range(30) for stream in ("out", "err")]
        assert list(run.streams) == [(1, 60)]

    async def test_newlines_and_carriage_returns_stay_as_written(self, engine: Run) -> None:
        run = await engine(sh(r"printf 'unix\nwindows\r\nprogress\rdone\n\n\ttab\n'"))
        assert texts(run) == ["unix", "windows\r", "progress\rdone", "", "\ttab"]
        assert run.output_bytes == len("unix\nwindows\r\nprogress\rdone\n\n\ttab\n")

    async def test_output_is_a_terminal_of_a_known_kind(self, engine: Run) -> None:
        run = await engine(sh("test -t 1 && test -t 2 && echo terminal; echo $TERM; echo again > /dev/stdout"))
        assert texts(run) == ["terminal", "xterm", "again"]
        assert texts(await engine(sh("echo $TERM", env={"TERM": "dumb"}))) == ["dumb"]

    @pytest.mark.parametrize("tty", [True, False])
    async def test_input_is_at_its_end(self, engine: Run, tty: bool) -> None:
        run = await engine(sh("cat; cat; read line || echo no line; wc -c", tty=tty, timeout=SLOW))
        assert (texts(run), run.killed_for) == (["no line", "0"], None)

    async def test_a_stage_without_a_terminal_has_its_streams_apart(self, engine: Run) -> None:
        script = r"test -t 1 || test -t 2 || echo no terminal; echo error >&2; printf 'a\r\nb\n'"
        run = await engine(sh(script, tty=False))
        assert sorted(texts(run)) == ["a\r", "b", "error", "no terminal"]
        assert sum(lines for stream, lines in run.streams if stream == 2) == 1
        assert texts(await engine(sh("echo ${TERM-unset}", tty=False))) == ["unset"]

    async def test_an_untrusted_stage_has_a_terminal(self, engine: Run) -> None:
        script = "test -t 1 && echo terminal; echo again > /dev/stdout; cat; echo end"
        stage = Stage.model_validate({**sh(script).model_dump(exclude={"networking", "privileged"}), "untrusted": True})
        assert texts(await engine(stage)) == ["terminal", "again", "end"]


@FIRST_OCI
class TestProfile:
    async def test_values_of_any_type_become_text(self, engine: Run) -> None:
        env = {"S": "s", "I": 1, "F": 1.5, "T": True, "N": None, "D": {"a": [1]}, "PATH": "/bin"}
        run = await engine(sh("env; echo N is ${N-unset}", env=env))
        assert {"S=s", "I=1", "F=1.5", "T=True", "D={'a': [1]}", "N is unset"} <= set(texts(run))

    async def test_hostname(self, engine: Run) -> None:
        assert texts(await engine(sh("hostname"))) == ["container"]
        assert texts(await engine(sh("hostname", hostname="grader-7"))) == ["grader-7"]

    async def test_without_network_there_is_localhost_only(self, engine: Run) -> None:
        run = await engine(sh("ip -o addr | awk '{print $2}' | sort -u; nc localhost 1"))
        assert sorted(texts(run)) == ["lo", "nc: can't connect to remote host (127.0.0.1): Connection refused"]

    async def test_with_network_there_is_more(self, engine: Run) -> None:
        run = await engine(sh("ip -o addr | awk '{print $2}' | sort -u", networking=True))
        assert {"lo", "eth0"} <= set(texts(run))

    async def test_a_low_port_can_be_bound(self, engine: Run) -> None:
        run = await engine(sh("timeout 0.2 nc -l -p 80; test $? = 143 || test $? = 124", networking=True))
        assert run.exit_code == 0

    async def test_a_fork_bomb_stops_at_the_limit(self, engine: Run) -> None:
        run = await engine(sh("for i in $(seq 100); do sleep 1000 & done", timeout=SLOW))
        assert run.exit_code != 0
        assert "can't fork" in run.output

    async def test_no_device_can_be_made(self, engine: Run) -> None:
        run = await engine(sh("mknod /job/null c 1 3"))
        assert run.exit_code != 0

    async def test_root_in_the_container_can_change_owners_and_modes(self, engine: Run) -> None:
        script = "touch /job/f; chown 1000:1000 /job/f; chmod 700 /job/f; echo x > /job/f; stat -c %u /job/f"
        assert texts(await engine(sh(script))) == ["1000"]


class TestConfinement:
    @ONLY_DOCKER
    async def test_inspect(self, engine: Run, started: Run, api: docker.APIClient, left: Left, labels: Labels) -> None:
        task = asyncio.create_task(engine(sh("touch /job/started; sleep 1000", memory="64m", cpuset_cpus="0")))
        await started()
        seen = api.inspect_container(left()[0]["Id"])
        task.cancel()
        await asyncio.wait({task})
        host = seen["HostConfig"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["Privileged"]
        assert host["LogConfig"]["Type"] == "none"
        assert host["RestartPolicy"]["Name"] == "no"
        assert host["Memory"] == host["MemorySwap"] == 64 * 1024 * 1024
        assert (host["PidsLimit"], host["CpusetCpus"], host["IpcMode"]) == (LIMITS.pids, "0", "private")
        assert (host["OomScoreAdj"], seen["Config"]["Tty"]) == (500, True)
        assert (
            seen["Config"]["Labels"].items()
            >= {
                "io.broadway.grader": labels.grader_id,
                "io.broadway.boot": labels.boot_id,
                "io.broadway.deployment": labels.deployment,
                "io.broadway.job": labels.job_id,
                "io.broadway.execution": labels.execution_id,
                "io.broadway.stage": "0",
            }.items()
        )
        assert time.time() < int(seen["Config"]["Labels"]["io.broadway.deadline"])
        assert seen["Name"] == f"/broadway-{labels.execution_id}-0"

    async def test_the_kernel_agrees(self, engine: Run) -> None:
        run = await engine(sh("grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; ulimit -c; ulimit -n"))
        assert [line.split()[-1] for line in texts(run)] == ["00000000000000fb", "1", "2", "0", "1024"]


class TestFaults:
    @pytest.mark.parametrize("entrypoint", ["no-such-program", "/no/such/program", "/bin", "/etc/hosts"])
    async def test_bad_entrypoint(self, engine: Run, entrypoint: str) -> None:
        with pytest.raises(ContainerError, match=entrypoint) as raised:
            await engine(sh("", entrypoint=[entrypoint]))
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.START, False)

    @pytest.mark.parametrize(
        "bad", [{"memory": "1m"}, {"cpuset_cpus": "999"}, {"env": {"": "secret"}}, {"entrypoint": []}]
    )
    async def test_a_stage_that_the_engine_refuses(self, engine: Run, bad: dict[str, Any]) -> None:
        with pytest.raises(ContainerError, match="broadway-test-busybox:1") as raised:
            await engine(sh("", **bad))
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, False)
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize("bad", [{"env": {"A": "secret\0"}}, {"hostname": "x" * 300}])
    async def test_a_stage_that_cannot_be_started(self, engine: Run, bad: dict[str, Any]) -> None:
        with pytest.raises(ContainerError) as raised:
            await engine(sh("", **bad))
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.START, False)
        assert "secret" not in str(raised.value)

    async def test_privileged_is_refused(self, engine: Run) -> None:
        with pytest.raises(ContainerError, match="privileged") as raised:
            await engine(sh("", privileged=True))
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, False)

    async def test_privileged_where_the_operator_allows_it(
        self, connect: Connect, directory: Path, labels: Labels, left: Left
    ) -> None:
        async with connect(limits=replace(LIMITS, allow_privileged=True)) as containers:
            stage = sh("mknod /job/null c 1 3", privileged=True)
            mounts = [Mount("/job", directory, read_only=False)]
            try:
                assert (await containers.run(stage, mounts=mounts, labels=labels)).exit_code == 0
            except ContainerError as error:
                # Some hosts grant these capabilities to no container; the engine was asked for them nevertheless.
                assert "apply caps" in str(error)  # noqa: PT017
        assert left() == []

    @ONLY_DOCKER
    async def test_ended_from_outside(self, engine: Run, started: Run, api: docker.APIClient, left: Left) -> None:
        task = asyncio.create_task(engine(sh("trap 'exit 5' TERM; touch /job/started; while :; do sleep 0.1; done")))
        await started()
        await asyncio.to_thread(api.kill, left()[0]["Id"], "TERM")
        with pytest.raises(ContainerError, match="from outside") as raised:
            await task
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.WAIT, True)

    async def test_a_failing_stage_ends_though_the_graders_clock_is_ahead_of_the_engines(
        self, engine: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = time.time
        monkeypatch.setattr(time, "time", lambda: clock() + 7200)
        async with asyncio.timeout(SLOW):
            assert (await engine(sh("exit 3"))).exit_code == 3

    async def test_ended_by_itself_as_if_from_outside(self, engine: Run) -> None:
        assert (await engine(sh("sh -c 'kill -9 $$'; exit $?"))).exit_code == 137

    async def test_missing_directory(self, real: Containers, labels: Labels, tmp_path: Path) -> None:
        gone = Mount("/job", tmp_path / "gone", read_only=False)
        with pytest.raises(ContainerError) as raised:
            await real.run(sh(""), mounts=[gone], labels=labels)
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, True)
        assert str(tmp_path) not in str(raised.value)

    async def test_an_image_that_was_removed(self, engine: Run) -> None:
        with pytest.raises(ContainerError, match="gone:1") as raised:
            await engine(sh("", image="gone:1"))
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, True)

    @pytest.mark.parametrize("image", [" ", "../images/x", "-x", "a/../b", "UPPER case"])
    async def test_an_invalid_image_name(self, real: Containers, image: str) -> None:
        with pytest.raises(ContainerError, match=re.escape(image)) as raised:
            await real.ensure_images([image])
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, False)

    @pytest.mark.filterwarnings(
        "ignore:unclosed:ResourceWarning"
    )  # the SDK does not close a socket that fails to connect
    async def test_no_engine(self, connect: Connect) -> None:
        with pytest.raises(ContainerError, match=r"/nowhere\.sock .*DOCKER_HOST") as raised:
            async with connect(docker_host="unix:///nowhere.sock"):
                pass
        del raised
        gc.collect()

    async def test_ping(self, real: Containers) -> None:
        await real.ping()


@pytest.fixture
def with_volumes(api: docker.APIClient) -> Iterator[str]:
    """An image whose containers get volumes from an engine."""
    changes = ["VOLUME /data", "VOLUME /job", "VOLUME /job/out/"]
    api.import_image_from_data(busybox(), repository="broadway-test-volumes", tag="1", changes=changes)
    yield "broadway-test-volumes:1"
    api.remove_image("broadway-test-volumes:1", force=True)


class TestDisk:
    FILL = "i=0; while dd if=/dev/zero of={}/$i bs=1M count=16; do i=$((i+1)); sleep 0.1; done 2>/dev/null"

    @pytest.fixture
    def volumes(self, api: docker.APIClient) -> Iterator[Count]:
        """The number of new volumes, which must be zero at the end."""

        def volumes() -> int:
            return len(api.volumes()["Volumes"] or [])

        before = volumes()
        yield lambda: volumes() - before
        assert volumes() == before

    async def test_a_stage_that_gives_up_when_its_disk_is_full(self, engine: Run) -> None:
        run = await engine(sh(f"{self.FILL.format('/')}; exit 3", timeout=SLOW))
        assert run.killed_for is KilledFor.DISK

    async def test_a_stage_that_ends_before_the_first_check(self, engine: Run) -> None:
        run = await engine(sh("dd if=/dev/zero of=/large bs=1M count=100; exit 3"))
        assert (run.exit_code, run.killed_for) == (3, KilledFor.DISK)

    async def test_a_stage_that_keeps_below_its_limit_beside_files_in_the_job_directory(self, engine: Run) -> None:
        fill = "dd if=/dev/zero of={} bs=1M count={}"
        run = await engine(sh(f"{fill.format('/job/large', 100)}; {fill.format('/large', 40)}; sleep 2"))
        assert (run.exit_code, run.killed_for) == (0, None)

    async def test_an_engine_with_quotas_enforces_the_limit(
        self, connect: Connect, directory: Path, labels: Labels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(EngineFeatures, "of", lambda *_, **__: EngineFeatures(has_quotas=True))
        async with connect() as containers:
            stage = sh("dd if=/dev/zero of=/large bs=1M count=100 2>/dev/null || exit 3")
            mounts = [Mount("/job", directory, read_only=False)]
            try:
                assert (await containers.run(stage, mounts=mounts, labels=labels)).exit_code == 3
            except ContainerError as error:
                # Few hosts have such an engine; the error of the others shows the request.
                assert "--storage-opt is supported only for" in str(error)  # noqa: PT017

    async def test_volumes_count(self, engine: Run, with_volumes: str, left: Left, volumes: Count) -> None:
        run = await engine(sh(f"mkdir -p /data; {self.FILL.format('/data')}; exit 3", timeout=SLOW, image=with_volumes))
        assert run.killed_for is KilledFor.DISK
        await until(lambda: not left() and volumes() == 0)

    async def test_an_untrusted_stage_gets_no_volume(
        self,
        real: Containers,
        kind: str,
        with_volumes: str,
        directory: Path,
        labels: Labels,
        volumes: Count,
    ) -> None:
        script = """
            for place in /data /job; do
                dd if=/dev/zero of=$place/large bs=1M count=100 2>/dev/null && exit 66
                test -e $place/large && echo $place is small
            done
            i=0; while echo >/data/$i; do i=$((i+1)); test $i = 10000 && exit 67; done 2>/dev/null
            echo kept >/job/out/file
        """
        stage = sh(script, image=with_volumes, untrusted=True, write=["out"], timeout=SLOW)
        mounts = [Mount("/job/out", directory, read_only=False)]
        run = await real.run(stage, mounts=mounts, labels=labels)
        assert run.exit_code == 0
        assert texts(run) == (["/data is small", "/job is small"] if kind == "docker" else [])
        assert (directory / "file").read_text() == "kept\n"
        assert volumes() == 0


@contextlib.asynccontextmanager
async def registry(
    answer: bytes = b"", *, answers: asyncio.Event | None = None
) -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """Serve a registry; yield its repository and a queue of its requests.

    Without an answer, clients wait; with ``answers``, they also wait while it is not set.
    """
    requests: asyncio.Queue[bytes] = asyncio.Queue()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            requests.put_nowait(await reader.readline())
            if answers:
                await answers.wait()
            writer.write(answer)
            if not answer:
                await over.wait()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}/x", requests
        over.set()


@contextlib.asynccontextmanager
async def breaking_registry() -> AsyncIterator[str]:
    """Serve a registry that has a manifest, and hangs up on a request for a blob; yield its repository."""
    nothing = {"digest": f"sha256:{'0' * 64}", "size": 1}
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    of_image = {"mediaType": "application/vnd.docker.container.image.v1+json", **nothing}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": of_image, "layers": []}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(manifest)}\r\nConnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, EOFError):
            request = await reader.readexactly(1)
            if request == b"\x16":  # a handshake of TLS, which the engine tries first
                return
            request += await reader.readline()
            if b"/blobs/" not in request:
                writer.write(head.encode() + (b"" if request.startswith(b"HEAD") else manifest))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}/x"


class TestDockerImages:
    @pytest.fixture
    def limits(self) -> Limits:
        return replace(LIMITS, allow_local_registries=True)

    async def test_a_registry_on_this_host_is_not_asked_unless_the_operator_allows_it(
        self, connect: Connect, api: docker.APIClient
    ) -> None:
        async with registry() as (repository, requests), connect(limits=LIMITS) as containers:
            with pytest.raises(ContainerError, match="--allow-local-registries") as raised:
                await containers.ensure_images([f"{repository}:1"])
            api.tag("broadway-test-busybox:1", repository, "1")
            await containers.ensure_images([f"{repository}:1"])  # it is here; only its registry is not asked
            await containers.close()
            assert requests.empty()
        api.remove_image(f"{repository}:1")
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, False)

    async def test_an_open_port_and_a_closed_one_cannot_be_told_apart(self, connect: Connect) -> None:
        async with registry(b"SSH-2.0-OpenSSH_9.2\r\n") as (is_open, _), connect() as containers:
            reasons = set()
            for repository in (is_open, "127.0.0.1:1/x"):
                with pytest.raises(ContainerError) as raised:
                    await containers.ensure_images([f"{repository}:1"])
                reasons.add((str(raised.value).replace(repository, "..."), raised.value.retryable))
        assert len(reasons) == 1
        assert "cannot be reached, or does not answer like one" in reasons.pop()[0]

    async def test_an_error_in_the_middle_of_a_pull_contains_no_address(self, connect: Connect) -> None:
        async with breaking_registry() as repository, connect() as containers:
            with pytest.raises(ContainerError, match="error pulling image configuration") as raised:
                await containers.ensure_images([f"{repository}:1"])
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, True)
        assert "http://" not in str(raised.value)
        assert repository.partition("/")[0] not in str(raised.value).removeprefix(f"image {repository}:1")

    async def test_a_pull_from_a_silent_registry_times_out(self, connect: Connect) -> None:
        async with registry() as (repository, _), connect(pull_timeout=1) as containers:
            with pytest.raises(ContainerError, match=f"{repository}:1: not pulled within 1 s") as raised:
                await containers.ensure_images([f"{repository}:1"])
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, True)

    async def test_the_duration_of_a_pull_is_reported(self, connect: Connect, api: docker.APIClient) -> None:
        async with connect() as containers:
            api.tag("broadway-test-busybox:1", "broadway-test-late", "1")
            begun = time.monotonic()
            pulls = await containers.ensure_images(["broadway-test-late:1"])
            assert 0 < pulls["broadway-test-late:1"] <= time.monotonic() - begun
        api.remove_image("broadway-test-late:1")

    async def test_concurrent_requests_for_a_missing_image_pull_once(self, connect: Connect) -> None:
        unknown = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        answers = asyncio.Event()
        answers.set()
        async with registry(unknown, answers=answers) as (repository, requests), connect() as containers:
            with pytest.raises(ContainerError, match=repository):
                await containers.ensure_images([f"{repository}:1"])
            once = requests.qsize()
            answers.clear()
            four = [asyncio.create_task(containers.ensure_images([f"{repository}:1"])) for _ in range(4)]
            await until(lambda: requests.qsize() > once)
            await containers.ensure_images(["broadway-test-busybox:1"])  # the others have asked the engine before this
            answers.set()
            results = await asyncio.gather(*four, return_exceptions=True)
            assert requests.qsize() == 2 * once
        assert all(isinstance(result, ContainerError) for result in results)

    async def test_a_refresh_delays_no_job(self, connect: Connect, api: docker.APIClient) -> None:
        async with registry() as (repository, requests), connect() as containers, asyncio.timeout(SLOW):
            api.tag("broadway-test-busybox:1", repository, "1")
            await containers.ensure_images([f"{repository}:1"])
            await requests.get()
            await containers.ensure_images([f"{repository}:1"])
        api.remove_image(f"{repository}:1")


class TestLeavesNothing:
    @ONLY_DOCKER
    async def test_orphans(self, real: Containers, api: docker.APIClient, labels: Labels, left: Left) -> None:
        lives = ("this-life", "earlier-life", "earlier-life")
        made = [
            api.create_container(
                "broadway-test-busybox:1",
                entrypoint=["sleep", "1000"],
                labels={
                    "io.broadway.grader": labels.grader_id,
                    "io.broadway.boot": life,
                    "io.broadway.deployment": "d1",
                },
            )["Id"]
            for life in lives
        ]
        api.start(made[1])
        earlier = Owner("earlier-life", labels.grader_id, "d1")
        removed = await real.remove_orphans(lambda owner: owner == earlier)
        assert removed == 2
        assert [each["Id"] for each in left()] == made[:1]
        api.remove_container(made[0], force=True)

    @ONLY_DOCKER
    async def test_only_what_an_ended_process_left_is_an_orphan(
        self, real: Containers, api: docker.APIClient, labels: Labels, left: Left, tmp_path: Path
    ) -> None:
        """Another deployment's grader with the same id may be alive; an earlier version wrote no deployment."""
        boot, namespace, *_ = own_identity().split(".")
        parent = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
        living = f"{boot}.{namespace}.{os.getppid()}.{parent}"
        ended = f"{boot}.{namespace}.4194305.1"  # above the highest process id
        owners = [(living, {"deployment": "another"}), (living, {}), (ended, {"deployment": "another"}), (ended, {})]
        made = [
            api.create_container(
                "broadway-test-busybox:1",
                entrypoint=["sleep", "1000"],
                labels={
                    f"io.broadway.{key}": value
                    for key, value in {"grader": labels.grader_id, "boot": identity, **more}.items()
                },
            )["Id"]
            for identity, more in owners
        ]
        await Orphans(real, tmp_path, tmp_path / "own").reap()
        assert {each["Id"] for each in left()} == set(made[:2])
        for each in made[:2]:
            api.remove_container(each, force=True)

    async def test_cancelled_at_any_step(self, engine: Run, left: Left) -> None:
        """Cancel while the container is created, attached, started or running."""
        for steps in (0, 1, 3, 6, 10):
            task = asyncio.create_task(engine(sh("sleep 1000")))
            for _ in range(steps):
                await asyncio.to_thread(left)  # a call to the engine takes about as long as a step
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert left() == []

    @ONLY_DOCKER
    async def test_a_container_is_made_while_the_stage_before_runs(
        self, real: Containers, directory: Path, labels: Labels, left: Left
    ) -> None:
        mounts = [Mount("/job", directory, read_only=False)]
        upcoming = Upcoming(sh(""), mounts, replace(labels, stage=1))
        first = asyncio.create_task(real.run(sh("sleep 1000"), mounts=mounts, labels=labels, upcoming=upcoming))
        await until(lambda: sorted(each["State"] for each in left()) == ["created", "running"])
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await real.dismiss(upcoming)

    @ONLY_DOCKER
    async def test_an_announced_container_that_cannot_be_made(
        self, real: Containers, directory: Path, labels: Labels
    ) -> None:
        mounts = [Mount("/job", directory, read_only=False)]
        upcoming = Upcoming(sh("", image="missing/image:1"), mounts, replace(labels, stage=1))
        assert (await real.run(sh(""), mounts=mounts, labels=labels, upcoming=upcoming)).exit_code == 0
        with pytest.raises(ContainerError, match="missing/image:1: not found") as raised:
            await real.run(upcoming.stage, mounts=mounts, labels=upcoming.labels)
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, True)

    async def test_cancelled_twice(self, engine: Run, started: Run, left: Left) -> None:
        task = asyncio.create_task(engine(sh("touch /job/started; sleep 1000")))
        await started()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left() == []

    @ONLY_DOCKER
    async def test_an_existing_container_of_the_same_name_is_not_touched(
        self, engine: Run, api: docker.APIClient, labels: Labels
    ) -> None:
        name = f"broadway-{labels.execution_id}-0"
        api.create_container("broadway-test-busybox:1", entrypoint=["true"], name=name)
        with pytest.raises(ContainerError) as raised:
            await engine(sh(""))
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, True)
        api.remove_container(name)

    async def test_the_event_loop_is_never_blocked(self, engine: Run) -> None:
        longest, loop = 0.0, asyncio.get_running_loop()
        task = asyncio.create_task(engine(sh("yes | head -c 200000; sleep 0.3")))
        while not task.done():
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)
        assert (await task).exit_code == 0
        if IS_WHOLE:
            assert longest < 0.5

    async def test_four_at_once(self, engine: Run) -> None:
        runs = await asyncio.gather(*(engine(sh(f"echo {i}; sleep 0.2")) for i in range(4)))
        assert [texts(run) for run in runs] == [["0"], ["1"], ["2"], ["3"]]

    async def test_no_descriptor_leaks(self, engine: Run) -> None:
        async def some(runs: int) -> int:
            for i in range(runs):
                await engine(sh("echo x" if i % 2 else "yes"))
            return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would open one more

        before = await some(2)
        assert await some(20 if IS_WHOLE else 2) <= before + 1

    @ONLY_DOCKER
    async def test_calls_share_their_connections(self, engine: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        connected, connect = 0, UnixHTTPConnection.connect

        def count(self: UnixHTTPConnection) -> None:
            nonlocal connected
            connected += 1
            connect(self)

        await engine(sh("true"))
        monkeypatch.setattr(UnixHTTPConnection, "connect", count)
        for _ in range(5):
            await engine(sh("true"))

        assert 5 <= connected <= 10, "each stage's output has one of its own, and few other calls need a new one"
