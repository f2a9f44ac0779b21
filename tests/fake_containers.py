"""A container engine without containers. The contract suite of the grader keeps it honest."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broadway.grader.stages import ContainerError, KilledFor, Labels, StageRun
from broadway.job import FaultPhase


class FakeContainers:
    """Runs stages whose entrypoint says what happens: sleep, exit, print, oom, flood, hang, write, read, fault."""

    def __init__(self) -> None:
        self.started: list[Labels] = []

    async def ensure_images(self, images: Sequence[str]) -> None:
        for image in images:
            if image.startswith("missing"):
                raise ContainerError(f"image {image} not found", phase=FaultPhase.PULL, retryable=False)

    async def run(self, stage: Mapping[str, Any], *, directory: Path, labels: Labels) -> StageRun:
        self.started.append(labels)
        verb, *arguments = stage.get("entrypoint") or ["exit", "0"]
        begun = datetime.now(UTC)
        code, killed, oom, output = 0, None, False, ""
        try:
            async with asyncio.timeout(stage.get("timeout", 30)):
                match verb:
                    case "sleep":
                        await asyncio.sleep(float(arguments[0]))
                    case "hang":
                        await asyncio.Event().wait()
                    case "exit":
                        code = int(arguments[0])
                    case "print":
                        output = " ".join(arguments)
                    case "env":
                        output = str(stage.get("env", {}).get(arguments[0]))
                    case "write":
                        (directory / arguments[0]).write_text(arguments[1])
                    case "read":
                        output = (directory / arguments[0]).read_text()
                    case "oom":
                        code, oom = 137, True
                    case "flood":
                        code, killed = 137, KilledFor.OUTPUT
                    case "fault":
                        raise ContainerError("the engine broke", phase=FaultPhase(arguments[0]), retryable=True)
        except TimeoutError:
            code, killed = 137, KilledFor.TIME
        ended = datetime.now(UTC)
        text = f"{begun:%Y-%m-%dT%H:%M:%S.%f}000Z {output}\n" if output else ""
        state = {"ExitCode": code, "OOMKilled": oom, "Status": "exited"}
        return StageRun(code, killed, oom, begun, ended, text, len(output), state)

    async def remove_orphans(self, is_orphan: Callable[[str, str], bool]) -> int:  # noqa: ARG002 - nothing survives
        return 0
