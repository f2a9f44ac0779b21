"""A question that keeps the store busy is followed by a pause, which is bounded."""

from types import SimpleNamespace

import pytest

from broadway.runtime import pacing


@pytest.mark.parametrize(("took", "pause"), [(0.25, 0.25), (30.0, pacing.LONGEST)])
async def test_a_pause_is_as_long_as_the_question_took_but_bounded(
    took: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = [100.0], list[float]()

    async def question() -> str:
        now[0] += took
        return "answer"

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(sleep=sleep))

    assert await pacing.spaced(question()) == "answer"
    assert pauses == [pause]


async def test_a_question_without_an_answer_is_not_followed_by_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async def question() -> None:
        raise ValueError("no answer")

    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace())

    with pytest.raises(ValueError, match="no answer"):
        await pacing.spaced(question())
