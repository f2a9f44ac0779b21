"""Which records are about an object."""

import pytest

from broadway.domain.audit_objects import About


@pytest.mark.parametrize("text", ["run:42", "assignment:mp-1_x", "graders", "tokens"])
def test_an_object_is_read_from_its_own_text(text: str) -> None:
    found = About.of(text)
    assert found is not None
    assert found.text == text


@pytest.mark.parametrize("text", ["", "run:", "run:a/b", "run:.*", "nothing:x", "RUN:x", "run:x\n", "run:" + "x" * 201])
def test_any_other_text_is_no_object(text: str) -> None:
    assert About.of(text) is None


def test_an_object_is_named_by_pages_and_by_the_api() -> None:
    assert About("run", "42").paths("cs101") == ("/ui/c/cs101/r/42", "/api/v2/courses/cs101/runs/42")
    assert "/api/v1/grading_run/cs101/mp1" in About("assignment", "mp1").paths("cs101")
