"""Texts of the audit log: without secrets, and bounded."""

import json

import pytest

from broadway.domain.audit import MAX_PARSED, MAX_TEXT, described, described_body


@pytest.mark.parametrize(
    "state",
    [
        {"env": {"A": "canary"}},
        {"students_env": [{"A": "canary"}, {"B": ["canary"]}]},
        {"students": [{"student": "alice", "env": {"A": {"deep": "canary"}}}]},
        {"student_pipeline": [{"image": "x", "env": {"A": "canary"}}]},
        {"secrets": ["canary"], "token": "canary", "operator_token": "canary"},
        {"amqp_url": "amqp://canary@host/"},
        {"env": "canary"},
        {"address": "https://host/x?key=canary&a=b#canary"},
        {"addresses": ["HTTPS://user:canary@host/", "https://canary@host?canary"]},
    ],
)
def test_secrets_are_masked_and_names_stay(state: dict[str, object]) -> None:
    text = described(state)
    assert text is not None
    assert "canary" not in text
    assert json.loads(text).keys() == state.keys()
    assert "canary" not in (described_body(json.dumps(state).encode()) or "")


def test_names_of_variables_and_other_values_stay() -> None:
    assert described({"env": {"A": 1}, "image": "busybox", "quota": None}) == (
        '{"env":{"A":"***"},"image":"busybox","quota":null}'
    )


def test_addresses_are_named_without_their_secrets() -> None:
    state = {"to": "https://u:p@host:8/hooks/a?key=1", "from": "see https://host/?a=b", "path": "/a?b=c"}
    assert json.loads(described(state) or "") == {
        "to": "https://***@host:8/hooks/a?***",
        "from": "see https://host/?a=b",
        "path": "/a?b=c",
    }


def test_long_states_are_cut_and_large_bodies_named_by_their_hash() -> None:
    long = described({"reason": "x" * MAX_TEXT})
    assert long is not None
    assert len(long) == MAX_TEXT
    assert "sha256" in long
    large = described_body(b" " * (MAX_PARSED + 1))
    assert large is not None
    assert json.loads(large)["bytes"] == MAX_PARSED + 1


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_json_is_named_by_its_hash(body: bytes) -> None:
    text = described_body(body)
    assert text is not None
    assert json.loads(text)["bytes"] == len(body)


def test_nothing_has_no_state() -> None:
    assert (described(None), described_body(b"")) == (None, None)
