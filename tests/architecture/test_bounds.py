"""Every number, text and list that is decoded from outside has a bound: messages, bodies, settings, stored configs."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, SecretStr, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import broadway
from broadway.domain.bounds import Cut, shallow
from broadway.messages.resources.base import View
from broadway.messages.resources.graders import JoinView

PACKAGES = ("broadway.domain", "broadway.messages", "broadway.settings", "broadway.ingest", "broadway.grader.links")
# Models and fields without bounds of their own, with the reason.
EXCEPTIONS = {
    "View": "an answer of the API, which the server builds from stored values; its client asked for it",
    "Case": "a case of the tests",
    "DeadLetter.body": "cut to MAX_KEPT by its validator",
}
LISTS = (list, tuple, set, frozenset, dict, Sequence, Mapping)
FREE = (bool, datetime, Path, NoneType, AwareDatetime)


def _name(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def models() -> list[type[BaseModel]]:
    """Return every model of the packages that decode values from outside."""
    for package in PACKAGES:
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return sorted({each for each in _subclasses(BaseModel) if _is_decoded(each)}, key=lambda each: each.__name__)


def _subclasses(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _is_decoded(model: type[BaseModel]) -> bool:
    if not model.__module__.startswith(PACKAGES):
        return False
    return not issubclass(model, View) or issubclass(model, JoinView)


def unbounded(annotation: Any, metadata: Sequence[Any], where: str) -> Iterator[str]:
    """Yield the parts of a type that take values of any size."""
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        yield from unbounded(annotation, [*metadata, *more], where)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from unbounded(part, metadata, where)
    elif (get_origin(annotation) or annotation) in LISTS:
        yield from _unbounded_list(annotation, metadata, where)
    else:
        yield from _unbounded_value(annotation, metadata, where)


def _unbounded_value(annotation: Any, metadata: Sequence[Any], where: str) -> Iterator[str]:
    if annotation in (int, float, Decimal):
        if not _has(metadata, annotated_types.Ge, annotated_types.Gt):
            yield f"{where}: a number without a lower bound"
        if not _has(metadata, annotated_types.Le, annotated_types.Lt):
            yield f"{where}: a number without an upper bound"
    elif annotation in (str, bytes, SecretStr):
        if not _is_short(metadata):
            yield f"{where}: a text without a bound"
    elif not _is_free(annotation):
        yield f"{where}: any value"


def _has(metadata: Sequence[Any], *kinds: type) -> bool:
    return any(isinstance(each, kinds) for each in _flat(metadata))


def _unbounded_list(annotation: Any, metadata: Sequence[Any], where: str) -> Iterator[str]:
    inner = get_args(annotation)
    is_fixed = get_origin(annotation) is tuple and Ellipsis not in inner
    if not is_fixed and not _has(metadata, annotated_types.MaxLen):
        yield f"{where}: a list without a bound"
    if not any(isinstance(each, AfterValidator) and each.func is shallow for each in metadata):
        for part in inner:
            if part is not Ellipsis:
                yield from unbounded(part, [], f"{where}[]")


def _is_short(metadata: Sequence[Any]) -> bool:
    for each in _flat(metadata):
        pattern = getattr(each, "pattern", None)
        if isinstance(pattern, str) and not re.search(r"[^\\][*+]|\{\d*,\}", pattern):
            return True
        if isinstance(each, annotated_types.MaxLen) or (
            isinstance(each, AfterValidator) and isinstance(each.func, Cut)
        ):
            return True
    return False


def _flat(metadata: Sequence[Any]) -> Iterator[Any]:
    """Yield metadata, with the parts of those that combine several bounds."""
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from each.metadata
        elif isinstance(each, StringConstraints):
            yield from each
            yield each
        else:
            yield each


def _is_free(annotation: Any) -> bool:
    if annotation in FREE or get_origin(annotation) is Literal or not isinstance(annotation, type):
        return annotation in FREE or get_origin(annotation) is Literal
    return issubclass(annotation, (Enum, BaseModel))


def problems(model: type[BaseModel]) -> list[str]:
    name = model.__name__
    found = [
        problem
        for field, info in model.model_fields.items()
        if f"{name}.{field}" not in EXCEPTIONS
        for problem in unbounded(info.annotation, info.metadata, f"{name}.{field}")
    ]
    return [] if name in EXCEPTIONS else found


@pytest.mark.parametrize("model", sorted(models(), key=_name), ids=_name)
def test_every_decoded_value_has_a_bound(model: type[BaseModel]) -> None:
    assert problems(model) == []


def test_the_packages_have_models_of_every_kind() -> None:
    names = {model.__name__ for model in models()}
    assert {"GraderHeartbeat", "JobResult", "JoinRequest", "ApiSettings", "Course", "AssignmentConfig"} <= names
    assert broadway.__version__
    assert any(issubclass(model, BaseSettings) for model in models())


def test_the_test_finds_values_without_a_bound() -> None:
    class Loose(BaseModel):
        number: int = Field(ge=0)
        text: str | None = None
        texts: Annotated[list[str], Field(max_length=3)]
        numbers: list[Annotated[int, Field(ge=0, le=1)]]
        anything: dict[str, Any]
        tight: Annotated[str, StringConstraints(pattern="^[ab]{3}$")]

    assert problems(Loose) == [
        "Loose.number: a number without an upper bound",
        "Loose.text: a text without a bound",
        "Loose.texts[]: a text without a bound",
        "Loose.numbers: a list without a bound",
        "Loose.anything: a list without a bound",
        "Loose.anything[]: a text without a bound",
        "Loose.anything[]: any value",
    ]
