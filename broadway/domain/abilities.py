"""Abilities: features of stages that not every grader has, such as those of the original and of earlier versions. Pure.

A grader reports its abilities, and a job is never handed to a grader that lacks one which it needs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from broadway.domain.grader import Grader
from broadway.domain.stage_kind import KIND
from broadway.domain.submission import submission_of

UNTRUSTED = "untrusted stages"
TTY_KEY = "the key tty of a stage"
PIPES = "stages without a terminal"
FILES = "files of submissions"
FORMATS = "results files with a format"
KINDS = "stages with a kind"
ARTIFACTS = "artifacts of stages"
LIVE_LOGS = "live logs"  # of graders at the broker; no job needs it

ABILITIES = (UNTRUSTED, TTY_KEY, PIPES, FILES, FORMATS, KINDS, ARTIFACTS)  # of our graders
WITHOUT_FILES = tuple(each for each in ABILITIES if each not in (FILES, ARTIFACTS))  # our graders that know no API
OF_THE_FIRST = (UNTRUSTED,)  # of our earlier versions, which do not report abilities
OF_THE_ORIGINALS = (TTY_KEY,)  # the gateway removes the key, and their stages always have a terminal

_KEYS_OF_UNTRUSTED = ("untrusted", "read", "write", "inherit", "results")
MAX_ABILITIES = 64  # that a grader may name
_NAMED = 5  # graders


def needed(stages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the abilities that a job with these stages needs, as posted."""
    conditions = {
        UNTRUSTED: any(stage.get(key) for stage in stages for key in _KEYS_OF_UNTRUSTED),
        TTY_KEY: any("tty" in stage for stage in stages),
        PIPES: any(stage.get("tty") is False for stage in stages),
        FILES: submission_of(stages) is not None,
        FORMATS: any(isinstance(stage.get("results"), Mapping) for stage in stages),
        KINDS: any(KIND in stage for stage in stages),
        ARTIFACTS: any("artifacts" in stage for stage in stages),
    }
    return tuple(ability for ability, is_needed in conditions.items() if is_needed)


def abilities_of(grader: Grader) -> tuple[str, ...]:
    """Return a grader's abilities, as it reported them or as its kind has them."""
    if grader.is_original:
        return OF_THE_ORIGINALS
    return grader.abilities or OF_THE_FIRST


def missing(needs: Sequence[str], abilities: Collection[str]) -> list[str]:
    """Return the needed abilities that a grader does not have."""
    return [need for need in needs if need not in abilities]


def obstacle(pool: str, needs: Sequence[str], graders: Iterable[Grader]) -> str:
    """Return the graders that a pool's job with these needs has to wait for; empty if it need not wait.

    Args:
        pool: The pool.
        needs: The abilities that the job needs.
        graders: Live graders, of any pool.
    """
    own = [grader for grader in graders if grader.pool == pool]
    if not own:
        return f"a grader of pool {pool}: none is alive"
    lacking = {grader.id: missing(needs, abilities_of(grader)) for grader in own}
    behind = sorted(grader.id for grader in own if lacking[grader.id] and not grader.gateway)
    names = ", ".join(behind[:_NAMED]) + (", ..." if len(behind) > _NAMED else "")
    if all(lacking.values()):
        return f"a grader of pool {pool} with {' and '.join(needs)}"
    return f"{names} of pool {pool}, to be upgraded or stopped: without {' and '.join(needs)}" if behind else ""
