"""A container engine without containers. The contract suite of the grader keeps it honest."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.ports import ContainerError, KilledFor, Labels, Mount, Owner, StageRun, Upcoming
from broadway.grader.sandbox.output import OutputLog
from broadway.grader.sandbox.programs import final_state


class FakeContainers:
    """Runs stages without containers: an entrypoint's first word selects the effect, see ``run`` and ``_ending``."""

    is_stuck = False  # no stage ends, which a real engine should prevent
    allow_network = True
    is_away = False  # the engine does not answer
    is_broken = False  # no container starts

    def __init__(self, *, allow_network: bool = True) -> None:
        self.allow_network = allow_network
        self.started: list[Labels] = []
        self.pipe: asyncio.Queue[str | None] = asyncio.Queue()  # the output of stages with the verb `pipe`
        self._is_dead = False
        self._lives: set[asyncio.Timeout] = set()  # of running stages

    def die(self) -> None:
        """End all running stages with an error of the engine, and answer nothing until `revive`."""
        self.is_away = self._is_dead = True
        for life in self._lives:
            life.reschedule(0)

    def revive(self) -> None:
        self.is_away = self._is_dead = False

    async def ping(self) -> None:
        if self.is_away:
            raise ContainerError("no engine answers", phase=FaultPhase.CREATE, retryable=True)

    async def try_out(self, labels: Labels) -> None:  # noqa: ARG002 - nothing is labelled
        if self.is_away or self.is_broken:
            raise ContainerError("the engine broke", phase=FaultPhase.START, retryable=True)

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        for image in images:
            if image.startswith("missing"):
                raise ContainerError(f"image {image} not found", phase=FaultPhase.PULL, retryable=False)
        return dict.fromkeys(images, 0.0)

    async def run(
        self,
        stage: Stage,
        *,
        mounts: Sequence[Mount],
        labels: Labels,
        upcoming: Upcoming | None = None,  # noqa: ARG002 - nothing to make
    ) -> StageRun:
        self.started.append(labels)
        life, death = asyncio.timeout(None), ContainerError("the engine died", phase=FaultPhase.WAIT, retryable=True)
        if self._is_dead:
            raise death
        try:
            async with life:
                self._lives.add(life)
                return await self._run(stage, mounts, labels)
        except TimeoutError:
            raise death from None
        finally:
            self._lives.discard(life)

    async def _run(self, stage: Stage, mounts: Sequence[Mount], labels: Labels) -> StageRun:
        stage = stage if self.allow_network else stage.model_copy(update={"networking": False})
        verb, *arguments = stage.entrypoint or ["exit", "0"]
        directory = next((mount.source for mount in mounts if mount.target == "/job"), Path())
        begun = datetime.now(UTC)
        ending = Ending()
        if self.is_broken:
            raise ContainerError("the engine broke", phase=FaultPhase.START, retryable=True)
        if self.is_stuck:
            await asyncio.sleep(float("inf"))
        try:
            async with asyncio.timeout(stage.timeout):
                if verb == "pipe":
                    return await _writing(self._piped(), stage, labels)
                if verb == "talk":
                    return await _writing(_talk(int(arguments[0])), stage, labels)
                if verb == "until":
                    await _exists(Path(arguments[0]))
                if verb in ("sleep", "hang"):
                    await asyncio.sleep(float(arguments[0]) if arguments else float("inf"))
                ending = _ending(verb, arguments, stage, directory)
        except TimeoutError:
            ending = Ending(137, KilledFor.TIME)
        ended = datetime.now(UTC)
        text = f"{begun:%Y-%m-%dT%H:%M:%S.%f}000Z {ending.output}\n" if ending.output else ""
        state = final_state(ending.code, begun, ended, oom_killed=ending.oom)
        size, streams = len(ending.output), [(1, 1)] if text else []
        return StageRun(ending.code, ending.killed, ending.oom, begun, ended, text, size, state, streams=streams)

    async def _piped(self) -> AsyncIterator[str]:
        """Yield the texts of the pipe, until None comes."""
        while (text := await self.pipe.get()) is not None:
            yield text

    async def dismiss(self, upcoming: Upcoming) -> None:
        pass

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:  # noqa: ARG002 - nothing survives
        return 0


async def _exists(path: Path) -> None:
    """Return once a file exists, by which a test ends a stage in another process."""
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)


async def _talk(lines: int) -> AsyncIterator[str]:
    """Yield numbered lines, one every few milliseconds."""
    for number in range(1, lines + 1):
        yield f"line {number}\n"
        await asyncio.sleep(0.01)


async def _writing(texts: AsyncIterator[str], stage: Stage, labels: Labels) -> StageRun:
    """Write texts as a container writes its output."""
    begun, output = datetime.now(UTC), OutputLog(head=64 * 1024, tail=192 * 1024, listener=labels.listener_of(stage))
    async for text in texts:
        output.feed(1, text.encode(), time.time_ns())
    kept, streams = output.kept()
    ended = datetime.now(UTC)
    state = final_state(0, begun, ended, oom_killed=False)
    return StageRun(0, None, False, begun, ended, kept, output.total, state, streams=streams)


def expected(stages: Sequence[Mapping[str, Any]]) -> Outcome:
    """Return the outcome that a job of these stages must have, unless a stage needs files, a limit or a fault."""
    for stage in map(Stage.model_validate, stages):
        verb, *arguments = stage.entrypoint
        if _ending(verb, arguments, stage, Path()).code:
            return Outcome.FAILED
    return Outcome.SUCCEEDED


@dataclass(frozen=True)
class Ending:
    code: int = 0
    killed: KilledFor | None = None
    oom: bool = False
    output: str = ""


def _ending(verb: str, arguments: Sequence[str], stage: Stage, directory: Path) -> Ending:  # noqa: C901, PLR0911 - a table
    match verb:
        case "exit":
            return Ending(int(arguments[0]) if arguments else 0)
        case "print":
            return Ending(output=" ".join(arguments))
        case "env":
            return Ending(output=str(stage.env.get(arguments[0])))
        case "write":
            (directory / arguments[0]).write_text(arguments[1])
            return Ending()
        case "read":
            return Ending(output=(directory / arguments[0]).read_text())
        case "digests":
            return Ending(output=" ".join(_digests(directory / arguments[0])))
        case "fails-for":
            return Ending(int(str(stage.env.get(arguments[0], "")).endswith(arguments[1])))
        case "interfaces":
            return Ending(output="eth0 lo" if stage.has_network else "lo")
        case "oom":
            return Ending(137, oom=True)
        case "flood":
            return Ending(137, KilledFor.OUTPUT)
        case "fill":
            return Ending(137, KilledFor.DISK)
        case "fault":
            raise ContainerError("the engine broke", phase=FaultPhase(arguments[0]), retryable=True)
    return Ending()


def _digests(directory: Path) -> list[str]:
    """Return path, mode and digest of each file below a directory."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return [
        f"{path.relative_to(directory)}:{path.stat().st_mode & 0o777:o}:{sha256(path.read_bytes()).hexdigest()}"
        for path in files
    ]
