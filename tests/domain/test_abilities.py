"""The abilities that stages need, and the graders that have them."""

from typing import Any

import pytest

from broadway.domain.abilities import (
    ABILITIES,
    FORMATS,
    KINDS,
    OF_THE_FIRST,
    OF_THE_ORIGINALS,
    PIPES,
    TTY_KEY,
    UNTRUSTED,
    missing,
    needed,
    obstacle,
)
from broadway.domain.grader import Grader


@pytest.mark.parametrize(
    ("stages", "needs"),
    [
        ([{"image": "a"}], ()),
        ([{"image": "a", "untrusted": False, "read": [], "results": None}], ()),
        ([{"image": "a"}, {"image": "a", "untrusted": True}], (UNTRUSTED,)),
        ([{"image": "a", "results": "r.json"}], (UNTRUSTED,)),
        ([{"image": "a", "results": {"format": "tap"}}], (UNTRUSTED, FORMATS)),
        ([{"image": "a"}, {"image": "a", "kind": "gradescope"}], (KINDS,)),
        ([{"image": "a", "kind": None}], (KINDS,)),  # graders of earlier versions refuse the key
        ([{"image": "a", "tty": True}], (TTY_KEY,)),
        ([{"image": "a", "tty": False}, {"image": "a", "untrusted": True}], (UNTRUSTED, TTY_KEY, PIPES)),
    ],
)
def test_stages_need_abilities(stages: list[dict[str, Any]], needs: tuple[str, ...]) -> None:
    assert needed(stages) == needs
    assert missing(needs, ABILITIES) == []


def ours(name: str, **more: Any) -> Grader:
    return Grader(name, slots=1, **more)


ORIGINAL = Grader("o", slots=1, gateway="api:1")
CURRENT, EARLIER = ours("c", abilities=ABILITIES), ours("e")


@pytest.mark.parametrize(
    ("needs", "graders", "expected"),
    [
        ((), [], "a grader of pool default: none is alive"),
        ((), [ours("x", pool="other")], "a grader of pool default: none is alive"),
        ((), [ORIGINAL], ""),
        ((PIPES,), [CURRENT], ""),
        ((PIPES,), [CURRENT, ORIGINAL], ""),
        ((PIPES,), [EARLIER, ORIGINAL], "a grader of pool default with stages without a terminal"),
        (
            (PIPES,),
            [CURRENT, EARLIER],
            "e of pool default, to be upgraded or stopped: without stages without a terminal",
        ),
        ((TTY_KEY,), [ORIGINAL], ""),
        ((UNTRUSTED,), [ORIGINAL], "a grader of pool default with untrusted stages"),
        ((UNTRUSTED,), [EARLIER], ""),
    ],
)
def test_a_job_waits_for_graders(needs: tuple[str, ...], graders: list[Grader], expected: str) -> None:
    assert obstacle("default", needs, graders) == expected


@pytest.mark.parametrize("abilities", [OF_THE_FIRST, OF_THE_ORIGINALS, ABILITIES[: ABILITIES.index(KINDS)]])
def test_graders_of_earlier_versions_and_of_the_original_get_no_stage_with_a_kind(abilities: tuple[str, ...]) -> None:
    assert missing(needed([{"image": "a", "kind": "gradescope"}]), abilities) == [KINDS]
