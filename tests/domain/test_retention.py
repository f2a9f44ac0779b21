"""The choice of old works and runs: what goes together."""

import pytest

from broadway.domain.retention import OldJob, OldRun, together


@pytest.mark.parametrize(
    ("works", "runs", "groups"),
    [
        (["a", "b"], {}, [{"a"}, {"b"}]),
        (["a", "b", "c"], {"r": "a", "s": "ab"}, [{"a", "b", "r", "s"}, {"c"}]),
        (["a", "b", "c"], {"r": "ab", "s": "bc", "t": ""}, [{"a", "b", "c", "r", "s"}, {"t"}]),
    ],
    ids=["no runs", "two of one", "a chain, and a run without works"],
)
def test_works_and_their_runs_go_together(works: list[str], runs: dict[str, str], groups: list[set[str]]) -> None:
    old = [
        OldRun(run, 1, tuple(OldJob(f"{run}-{work}", 1, frozenset(), work) for work in of)) for run, of in runs.items()
    ]
    found = [{*group, *(run.id for run in own)} for group, own in together(works, old)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, groups))
