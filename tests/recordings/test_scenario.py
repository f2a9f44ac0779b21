"""The scenario makes the messages and documents of the latest recording."""

from collections.abc import Mapping, Sequence
from difflib import unified_diff
from typing import Any

from recordings.normal import normalized
from recordings.recording import Recording


async def test_the_messages_are_the_same(made: Recording, latest: Recording) -> None:
    differing = differences(normalized(latest).messages, normalized(made).messages)
    assert not differing, "\n".join(differing)


async def test_the_documents_are_the_same(made: Recording, latest: Recording) -> None:
    differing = differences(normalized(latest).documents, normalized(made).documents)
    assert not differing, "\n".join(differing)


def differences(then: Mapping[Any, Sequence[str]], now: Mapping[Any, Sequence[str]]) -> list[str]:
    """Return lines for every difference: recorded (-) and made now (+)."""
    names = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return [line for key in names for line in (f"{key}:", *_diff(then.get(key, ()), now.get(key, ())))]


def _diff(then: Sequence[str], now: Sequence[str]) -> list[str]:
    return list(unified_diff(then, now, lineterm="", n=0))[2:]
