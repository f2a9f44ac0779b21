"""The description of v2 is what was recorded, but for its prose."""

from typing import Any

from recordings.record import Served
from recordings.recording import Recording

PROSE = {"summary", "description"}


async def test_v2_is_described_as_before(restored: Served, latest: Recording) -> None:
    now, then = without_prose(restored.openapi), without_prose(latest.openapi)
    for part, described in then.items():
        assert now[part] == described, part
    assert now.keys() == then.keys()


def without_prose(value: Any) -> Any:
    """The same without texts for people; what has a text's name and is none stays, such as a property's schema."""
    if isinstance(value, list):
        return [without_prose(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if not (key in PROSE and isinstance(each, str))}
    return {key: without_prose(each) for key, each in kept.items()}
