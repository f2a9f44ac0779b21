"""States of the audit log about a whole class, as one student may see them."""

import json
from typing import Any

import pytest

from broadway.domain.student_data import own_part


@pytest.mark.parametrize(
    ("state", "own"),
    [
        ({"students": [{"student": "ada", "labels": ["x"]}, {"student": "bob"}]},
         {"students": [{"student": "ada", "labels": ["x"]}]}),
        ({"students": [{"student": "team", "members": ["ada", "bob"]}], "reason": "new"},
         {"students": [{"student": "team", "members": ["ada"]}], "reason": "new"}),
        ({"students": ["bob", "ada"], "others": ["cy"]}, {"students": ["ada"]}),
        ({"points": {"ada": 1, "bob": 2}}, {"points": {"ada": 1}}),
        ({"students": ["bob"]}, None),
        ("ada", "ada"),
        ({"note": "ada and bob"}, None),
    ],
)  # fmt: skip
def test_a_state_about_many_is_exported_without_the_others(state: Any, own: Any) -> None:
    found = own_part(json.dumps(state), "ada")
    assert (None if found is None else json.loads(found)) == own


@pytest.mark.parametrize("text", ['{"students": ["ada", "b', "", "[" * 100_000])
def test_a_state_that_was_cut_is_left_out(text: str) -> None:
    assert own_part(text, "ada") is None
