"""Results of stages: the stored entry, and the reading of entries from other programs."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.result import Scores, StageResult, Usage, document_size

STATE = {
    "Status": "exited",
    "OOMKilled": True,
    "ExitCode": 137,
    "StartedAt": "2026-03-01T12:00:00.123456789Z",
    "FinishedAt": "2026-03-01T12:00:02Z",
}
USAGE = Usage(
    "sha256:1",
    create_seconds=0.1,
    start_seconds=0.2,
    cpu_seconds=None,
    peak_memory=4,
    pull_seconds=7.5,
    wall_seconds=2.0,
    output_bytes=12,
)
FULL = StageResult(
    success=False,
    state=STATE,
    killed=True,
    killed_for="disk",
    signal=9,
    usage=USAGE,
    streams=((1, 3), (0, 1)),
    scores=Scores(8.5, None, '{"score": 8.5}'),
)
STORED = (
    '{"data": {"Status": "exited", "OOMKilled": true, "ExitCode": 137, "StartedAt": "2026-03-01T12:00:00.123456789Z", '
    '"FinishedAt": "2026-03-01T12:00:02Z"}, "killed": true, "killed_for": "disk", "signal": 9, "success": false, '
    '"usage": {"image": "sha256:1", "create_seconds": 0.1, "start_seconds": 0.2, "cpu_seconds": null, '
    '"peak_memory": 4, "pull_seconds": 7.5, "wall_seconds": 2.0, "output_bytes": 12}, "streams": [[1, 3], [0, 1]], '
    '"scores": {"score": 8.5, "max_score": null, "document": "{\\"score\\": 8.5}"}}'
)

SCALARS = st.sampled_from([None, True, False, -1, 0, 9, 10**400, 0.5, float("nan"), "", "text", STATE["StartedAt"]])
ANYTHING = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["score", "x"]), SCALARS)
STATES = st.dictionaries(st.sampled_from([*STATE, "Pid"]), ANYTHING)
USAGES = st.dictionaries(st.sampled_from([*USAGE.document(), "gpu_seconds"]), ANYTHING)
SCORES = st.dictionaries(st.sampled_from(["score", "max_score", "document"]), ANYTHING)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "data": STATES | ANYTHING,
        "killed": ANYTHING,
        "killed_for": ANYTHING,
        "signal": ANYTHING,
        "success": ANYTHING,
        "usage": USAGES | ANYTHING,
        "streams": st.lists(st.lists(st.integers(-1, 9), min_size=1, max_size=3)) | ANYTHING,
        "scores": SCORES | ANYTHING,
        "result": ANYTHING,
    },
)


def test_a_result_is_stored_as_an_entry() -> None:
    assert json.dumps(FULL.entry()) == STORED


def test_a_stored_entry_is_read() -> None:
    result = StageResult.read(json.loads(STORED))

    assert result == FULL
    assert (result.exit_code, result.out_of_memory) == (137, True)
    assert result.started_at == datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert result.finished_at == datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)
    assert json.dumps(result.entry()) == STORED


@pytest.mark.parametrize(
    ("result", "entry"),
    [
        (StageResult(success=False), {"success": False}),
        (
            StageResult(success=True, state={}, killed=False),
            {"data": {}, "killed": False, "killed_for": None, "signal": None, "success": True},
        ),
    ],
)
def test_entries_may_lack_optional_keys(result: StageResult, entry: dict[str, Any]) -> None:
    assert result.entry() == entry
    assert StageResult.read(entry) == result


def test_an_entry_of_the_originals_graders_is_read() -> None:
    result = StageResult.read({"data": {"ExitCode": 0, "OOMKilled": False}, "killed": True, "success": False})

    assert (result.success, result.killed, result.killed_for, result.signal) == (False, True, None, None)
    assert (result.exit_code, result.out_of_memory, result.started_at) == (0, False, None)
    assert (result.usage, result.streams, result.scores) == (None, (), None)


def test_usage_keeps_the_keys_of_its_grader() -> None:
    stored = {"image": "sha256:1", "cpu_seconds": 1, "gpu_seconds": 3.5}
    usage = StageResult.read({"success": True, "usage": stored}).usage

    assert usage is not None
    assert (usage.image, usage.cpu_seconds, usage.pull_seconds) == ("sha256:1", 1, None)
    assert usage.document() == stored


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "yesterday", "", 5, None])
def test_an_invalid_time_is_none(text: object) -> None:
    assert StageResult.read({"data": {"StartedAt": text}}).started_at is None


def test_a_time_without_a_zone_is_utc() -> None:
    result = StageResult.read({"data": {"FinishedAt": "2026-03-01T12:00:00"}})

    assert result.finished_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("streams", [5, "ab", {"1": 2}, [5], [[1]], [[1, 2, 3]], [[1, "2"]], [[1, 2], [1, -1]]])
def test_malformed_streams_are_none(streams: object) -> None:
    assert StageResult.read({"streams": streams}).streams == ()


@pytest.mark.parametrize("number", [True, "8", float("nan"), float("inf"), 10**400, [8]])
def test_a_score_is_a_finite_number(number: object) -> None:
    scores = StageResult.read({"scores": {"score": number, "max_score": 10, "document": 5}}).scores

    assert scores == Scores(None, 10, None)


@pytest.mark.parametrize("told", [{}, [], "8", None])
def test_invalid_scores_are_none(told: object) -> None:
    assert StageResult.read({"scores": told}).scores is None
    assert document_size({"scores": told}) == 0


def test_the_size_of_a_document_is_its_length() -> None:
    assert document_size(json.loads(STORED)) == len('{"score": 8.5}')
    assert document_size({"scores": {"score": 1}}) == 0


@pytest.mark.parametrize("entry", [None, "text", 5, [["success", True]], {"result": "worker died while executing job"}])
def test_an_entry_without_a_result_is_read_as_empty(entry: object) -> None:
    assert StageResult.read(entry) == StageResult()


@given(ENTRIES)
def test_any_entry_is_read(entry: dict[str, Any]) -> None:
    result = StageResult.read(entry)

    for kind, value in (
        (bool, result.success),
        (bool, result.killed),
        (str, result.killed_for),
        (int, result.signal),
        (int, result.exit_code),
        (bool, result.out_of_memory),
        (datetime, result.started_at),
        (datetime, result.finished_at),
        (Usage, result.usage),
        (Scores, result.scores),
    ):
        assert value is None or isinstance(value, kind)
    assert all(isinstance(stream, int) and lines >= 0 for stream, lines in result.streams)
    assert StageResult.read(result.entry()).entry() == result.entry()
