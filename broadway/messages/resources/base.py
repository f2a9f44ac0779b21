"""The base of all resources and request bodies, and the shapes that every resource shares."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")

MAX_PAGE = 500  # items


class View(BaseModel):
    """A resource, or a part of one. Times are RFC 3339 in UTC, durations seconds."""

    model_config = ConfigDict(frozen=True)


class Body(BaseModel):
    """The body of a request: taken strictly, and refused if it has a key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Page(View, Generic[Item]):
    """Some of many. ``next`` is the ``after`` of the next page; null on the last one."""

    items: list[Item]
    next: str | None


class Problem(View):
    """RFC 9457: what is wrong with a request."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
