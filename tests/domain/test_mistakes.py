"""Mistakes in input have our words, for every type of error that pydantic has, and name the key that was meant."""

from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core.core_schema import ErrorType

from broadway.domain.assignment import AssignmentConfig
from broadway.domain.mistakes import _PATTERNS, known_names, mistakes, sentence
from broadway.domain.roster import Roster
from broadway.domain.webhook import HookConfig, JsonSubmission
from broadway.settings.programs import PROGRAMS

PYDANTICS = ("Input", "Value error", "Field required", "permitted", "valid ", "String", "pydantic")


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_every_type_of_error_has_our_words(kind: str) -> None:
    context: dict[str, Any] = {"error": ValueError("ours"), "pattern": "^x$"}
    words = sentence({"type": kind, "loc": ("x",), "msg": "Input should be pydantic", "input": None, "ctx": context})

    assert not any(each in words for each in PYDANTICS)
    assert words.startswith(("should ", "expected ", "is missing", "no such key", "ours"))


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    timeout: float = Field(default=1, gt=0)
    network: Literal["yes", "no"] = "yes"


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=2, max_length=4)
    stages: Annotated[list[Inner], Field(max_length=2)] | None = None
    by_name: dict[str, Inner] = {}
    count: int = 0

    @field_validator("count")
    @classmethod
    def _even(cls, count: int) -> int:
        if count % 2:
            raise ValueError("should be even")
        return count


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "ab", "nmae": 1}, "nmae: no such key; did you mean name?"),
        ({"name": "ab", "By-Name": 1}, "By-Name: no such key; did you mean by_name?"),
        ({"name": "ab", "x": 1}, "x: no such key; there are name, stages, by_name, count"),
        ({"name": "ab", "stages": [{"time_out": 1}]}, "stages.0.time_out: no such key; did you mean timeout?"),
        ({"name": "ab", "by_name": {"k": {"netwrk": 1}}}, "by_name.k.netwrk: no such key; did you mean network?"),
        ({"name": "ab", "stages": [{"timeout": 0}]}, "stages.0.timeout: should be greater than 0"),
        ({"name": "ab", "stages": [{"network": "si"}]}, "stages.0.network: should be 'yes' or 'no'"),
        ({"name": "ab", "stages": [{}] * 3}, "stages: should have at most 2 entries"),
        ({"name": "abcde"}, "name: should have at most 4 characters"),
        ({"name": "a"}, "name: should have 2 or more characters"),
        ({"name": 7}, "name: should be text"),
        ({"name": "ab", "count": 1.5}, "count: should be a whole number"),
        ({"name": "ab", "count": True}, "count: should be a whole number"),
        ({"name": "ab", "count": 3}, "count: should be even"),
        ({}, "name: is missing"),
        ([], "the body: should be an object"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Shape.model_validate(given)

    assert mistakes(error.value, Shape, whole="the body") == [said]


def test_a_secret_is_not_in_the_words() -> None:
    with pytest.raises(ValidationError) as error:
        Shape.model_validate({"name": "hush-hush", "count": "hush-hush", "stages": "hush-hush"})

    assert "hush" not in "".join(mistakes(error.value, Shape))


def test_the_keys_of_deep_objects_are_known() -> None:
    assert "image" in known_names(AssignmentConfig, ("student_pipeline", 0))
    assert "repository" in known_names(Roster, ("students", 3))
    assert known_names(AssignmentConfig, ("student_pipeline", 0, "env")) == []


def patterns(node: Any) -> set[str]:
    """Return the patterns in a JSON schema."""
    if isinstance(node, list):
        return set().union(*map(patterns, node))
    if not isinstance(node, dict):
        return set()
    own = {node["pattern"]} if isinstance(node.get("pattern"), str) else set()
    return own.union(*map(patterns, node.values()))


@pytest.mark.parametrize("shape", [AssignmentConfig, HookConfig, JsonSubmission, Roster, *PROGRAMS.values()])
def test_the_patterns_that_people_meet_have_words(shape: type[BaseModel]) -> None:
    assert patterns(shape.model_json_schema()) - set(_PATTERNS) == set()
