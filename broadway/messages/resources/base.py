"""The base of all resources and request bodies, and the shapes that every resource shares."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")

MAX_PAGE = 500  # items


class View(BaseModel):
    """A resource, or a part of one. Times are RFC 3339 in UTC, durations are in seconds."""

    model_config = ConfigDict(frozen=True)


class Body(BaseModel):
    """The body of a request. Types are strict, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Page(View, Generic[Item]):
    """One page of a list. ``next`` is the ``after`` of the next page; null on the last page."""

    items: list[Item]
    next: str | None


class Problem(View):
    """A problem with a request, in the format of RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
