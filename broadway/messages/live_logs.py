"""Messages about the output of running jobs, which get lost without harm: the stored log has it all at the end."""

from typing import Annotated, ClassVar
from uuid import uuid4

from pydantic import Field, StringConstraints

from broadway.domain.bounds import MAX_STAGES, Count, Id
from broadway.messages.events import ExecutionEvent, JobEvent

LONGEST_WATCH = 60.0  # seconds
CHUNK = 16 * 1024  # bytes of a chunk's text; a single longer line is a chunk of its own
LONGEST_CHUNK = CHUNK + 100  # characters; a line has at most 16 kB of output and a time
CHUNK_LINES = 1024

Run = tuple[Annotated[int, Field(ge=0, le=2)], Annotated[int, Field(ge=1, le=CHUNK_LINES)]]


class WatchLog(JobEvent):
    """A command to a grader: publish an execution's output for the next ``seconds``, since a reader follows it.

    With ``backlog``, the grader first publishes the lines that it still holds, since the sender may have none of them.
    """

    type: ClassVar[str] = "log.watch.v1"
    names_fact: ClassVar[bool] = False

    execution_id: Id
    seconds: Annotated[float, Field(gt=0, le=LONGEST_WATCH, allow_inf_nan=False)]
    backlog: bool = False

    @property
    def identity(self) -> str:
        return str(uuid4())


class LogChunk(ExecutionEvent):
    """Consecutive lines of one stage's output, in the form of the stored log.

    ``line`` is the number of the stage's lines before them, and ``offset`` that of the execution's lines before them:
    a chunk whose offset is not the end of the previous one shows that lines are missing. ``streams`` gives the origin
    of the lines: pairs of 1 (stdout) or 2 (stderr) and a number of consecutive lines. ``begins``: no earlier lines are
    held, as after a ``WatchLog`` with ``backlog``.
    """

    type: ClassVar[str] = "log.chunk.v1"
    names_fact: ClassVar[bool] = False

    stage: Annotated[int, Field(ge=0, lt=MAX_STAGES)]
    line: Count
    offset: Count
    text: Annotated[str, StringConstraints(max_length=LONGEST_CHUNK)]
    streams: Annotated[list[Run], Field(min_length=1, max_length=CHUNK_LINES)]
    begins: bool = False

    @property
    def identity(self) -> str:
        return str(uuid4())
