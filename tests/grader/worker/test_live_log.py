"""The output that a grader holds for readers: all of it in order, or visibly less; and nothing without readers."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from harness import until
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.job import Phase
from broadway.grader.sandbox.output import OutputLog, line_count, lines_of
from broadway.grader.worker.live_log import LiveLog, Piece
from broadway.grader.worker.log_publisher import BURST, MOST, LogPublisher
from broadway.messages.events import Event, ExecutionEvent, JobDispatched
from broadway.messages.live_logs import CHUNK, LONGEST_CHUNK, LogChunk, WatchLog
from broadway.messages.topology import LOGS, Exchange
from broadway.ports import PublishError

AT = 1_795_375_892_613_854_664
IDS = {"course": "cs1", "run_id": "r1", "job_id": "j1", "generation": 1}
JOB = JobDispatched.model_validate(
    {**IDS, "ticket": "t", "assignment": "mp1", "phase": Phase.STUDENTS, "attempt": 1, "stages": []}
)
WRITES = st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=60) | st.sampled_from([b"a\n", b"\n", b"x" * 40])))


def watch(*, backlog: bool = True, seconds: float = 30) -> WatchLog:
    return WatchLog.model_validate({**IDS, "execution_id": "e1", "seconds": seconds, "backlog": backlog})


def all_of(live: LiveLog, size: int = 100) -> list[Piece]:
    pieces = []
    while piece := live.take(size):
        pieces.append(piece)
    return pieces


@given(st.lists(st.tuples(st.integers(0, 2), WRITES), max_size=3), st.integers(1, 200))
def test_the_pieces_of_a_small_output_are_the_stored_log(
    stages: list[tuple[int, list[tuple[int, bytes]]]], size: int
) -> None:
    live, stored = LiveLog(), ""
    for stage, (_, writes) in enumerate(stages):
        output = OutputLog(head=10**6, tail=0, listener=lambda *block, stage=stage: live.hear(stage, *block))
        for stream, data in writes:
            output.feed(stream, data, AT)
        stored += output.text()

    pieces = all_of(live, size)

    assert "".join(line.text for piece in pieces for line in piece.lines) == stored
    ends = [piece.offset + len(piece.lines) for piece in pieces]
    assert [piece.offset for piece in pieces] == [0, *ends][:-1] if pieces else not stored
    assert all(piece.size <= size or len(piece.lines) == 1 for piece in pieces)
    assert [piece.begins for piece in pieces] == [index == 0 for index in range(len(pieces))]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.integers(4, 16))
def test_lines_are_counted_as_they_are_split(parts: list[bytes], longest: int) -> None:
    data = b"\n".join(parts) or b"\n"

    assert line_count(data, longest) == len(list(lines_of(1, data, AT, longest)))


@given(WRITES, WRITES)
def test_lines_that_fell_out_are_missing_by_their_numbers(
    before: list[tuple[int, bytes]], after: list[tuple[int, bytes]]
) -> None:
    live = LiveLog(kept=200)
    for stream, data in before:
        live.hear(0, stream, data + b"\n", AT)
    first = all_of(live)
    for stream, data in after:
        live.hear(1, stream, data + b"\n", AT)
    second = all_of(live)

    written = [line for stream, data in before + after for line in lines_of(stream, data + b"\n", AT)]
    for piece in first + second:
        assert piece.lines == written[piece.offset : piece.offset + len(piece.lines)]
    if before:
        assert first[-1].offset + len(first[-1].lines) == sum(line_count(data + b"\n") for _, data in before)


def test_a_flood_keeps_a_bounded_part() -> None:
    live = LiveLog(kept=10_000)
    for _ in range(100):
        live.hear(0, 1, b"0123456789\n" * 100, AT)

    kept = sum(piece.size for piece in all_of(live))
    assert 5_000 < kept <= 10_000


@dataclass
class Broker:
    """Collects what is sent; refuses it while it is away."""

    sent: list[tuple[str, Event]] = field(default_factory=list)
    is_away: bool = False

    async def send(self, exchange: Exchange, key: str, event: Event) -> None:
        assert exchange is LOGS
        if self.is_away:
            raise PublishError("of this test", unknown=True)
        self.sent.append((key, event))

    def proven(self, event: ExecutionEvent) -> ExecutionEvent:
        return event.model_copy(update={"proof": "mine"})

    @property
    def chunks(self) -> list[LogChunk]:
        return [event for _, event in self.sent if isinstance(event, LogChunk)]

    @property
    def text(self) -> str:
        lines = (line for chunk in self.chunks for line in chunk.text.splitlines())
        return "".join(line.partition(" ")[2] + "\n" for line in lines)


@contextlib.asynccontextmanager
async def publishing(broker: Broker):  # noqa: ANN201 - of this module
    async with contextlib.aclosing(LogPublisher("g1", broker, broker, interval=0.001)) as publisher:
        yield publisher


async def test_nothing_is_published_without_readers() -> None:
    broker = Broker()
    async with publishing(broker) as publisher:
        with publisher.of(JOB, "e1") as hear:
            hear(0, 1, b"a\n", AT)
            publisher.watch(watch().model_copy(update={"execution_id": "e2"}))
            publisher.watch(watch().model_copy(update={"generation": 2}))
            await asyncio.sleep(0.01)
        publisher.watch(watch())

    assert broker.sent == []


async def test_a_reader_gets_the_backlog_then_what_follows_and_the_last_lines() -> None:
    broker = Broker()
    async with publishing(broker) as publisher:
        with publisher.of(JOB, "e1") as hear:
            hear(0, 1, b"a\nb\n", AT)
            publisher.watch(watch())
            await until(lambda: broker.text == "a\nb\n")
            hear(0, 2, b"c\n", AT)
            await until(lambda: broker.text == "a\nb\nc\n")
            publisher.watch(watch(backlog=False))
            hear(1, 1, b"d\n", AT)
        await until(lambda: broker.text == "a\nb\nc\nd\n")

    places = [(chunk.stage, chunk.line, chunk.offset, chunk.begins) for chunk in broker.chunks]
    assert places == [(0, 0, 0, True), (0, 2, 2, False), (1, 0, 3, False)]
    assert {key for key, _ in broker.sent} == {"log.g1.j1"}
    assert {(chunk.proof, chunk.ticket, chunk.grader_id) for chunk in broker.chunks} == {("mine", "t", "g1")}


async def test_a_second_reader_gets_the_backlog_again() -> None:
    broker = Broker()
    async with publishing(broker) as publisher:
        with publisher.of(JOB, "e1") as hear:
            hear(0, 1, b"a\n", AT)
            for _ in range(2):
                publisher.watch(watch())
                seen = len(broker.sent)
                await until(lambda seen=seen: len(broker.sent) > seen)

    assert [chunk.offset for chunk in broker.chunks] == [0, 0]


async def test_publishing_ends_with_the_lease() -> None:
    broker = Broker()
    async with publishing(broker) as publisher:
        with publisher.of(JOB, "e1") as hear:
            publisher.watch(watch(seconds=0.01))
            await asyncio.sleep(0.05)
            hear(0, 1, b"late\n", AT)
            await asyncio.sleep(0.01)
            assert broker.sent == []
            publisher.watch(watch())
            await until(lambda: broker.text == "late\n")


async def test_a_flood_is_published_in_part_and_in_bounded_chunks() -> None:
    broker = Broker()
    async with publishing(broker) as publisher:
        with publisher.of(JOB, "e1") as hear:
            publisher.watch(watch())
            for _ in range(20):
                hear(0, 1, b"\xff" * 1000 + b"\n" + b"\n" * 30_000, AT)
                hear(0, 1, b"z" * 16_384, AT)
                await asyncio.sleep(0.001)
            await until(lambda: broker.sent)

    assert sum(len(chunk.text) for chunk in broker.chunks) < BURST + 4 * CHUNK < MOST
    assert max(len(chunk.text) for chunk in broker.chunks) <= LONGEST_CHUNK
    ends = [chunk.offset + sum(count for _, count in chunk.streams) for chunk in broker.chunks]
    assert any(chunk.offset > end for chunk, end in zip(broker.chunks[1:], ends, strict=False))


async def test_a_broker_that_is_away_ends_only_the_live_log_until_the_next_request() -> None:
    broker = Broker(is_away=True)
    async with publishing(broker) as publisher:
        with publisher.of(JOB, "e1") as hear:
            hear(0, 1, b"a\n", AT)
            publisher.watch(watch())
            await asyncio.sleep(0.01)
            broker.is_away = False
            publisher.watch(watch())
            await until(lambda: broker.text == "a\n")
