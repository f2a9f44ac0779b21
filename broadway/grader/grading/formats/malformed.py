"""The error of a results file that is not valid, and checks of the values in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from broadway.domain.report import MAX_NAME, MAX_TESTS, points_of, shortened, storable, total

_SHOWN = 100  # characters of a path to a field


class MalformedError(ValueError):
    """A results file is not valid. The text names the field and the expected form, without quoting the file."""


def malformed(where: str, expected: str) -> MalformedError:
    """Return the error for a field."""
    return MalformedError(f"{storable(where[:_SHOWN])}: {expected}" if where else expected)


@dataclass(frozen=True, slots=True)
class File:
    """A results file: its path below ``/job``, and its bytes."""

    path: str
    data: bytes

    @property
    def stem(self) -> str:
        """The name without directories and the last ending."""
        name = self.path.rsplit("/", 1)[-1]
        return name.rsplit(".", 1)[0] or name


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a JSON document, whose values are checked where they are read; ``where`` is its place."""

    values: Mapping[str, Any]
    where: str = ""

    def place(self, key: str) -> str:
        """Return the place of a field."""
        return f"{self.where}.{key}" if self.where else key

    def has(self, key: str) -> bool:
        """Return whether the object has a field that is not null."""
        return self.values.get(key) is not None

    def number(self, key: str, *, is_text_allowed: bool = False) -> Decimal | None:
        """Return a number, or None if it is missing or null.

        Raises:
            MalformedError: The value is no number, or beyond 2^53.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if is_text_allowed and isinstance(value, str):
            value = decimal_of(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise malformed(self.place(key), "should be a number")
        return points(Decimal(value), self.place(key))

    def text(self, key: str, *, is_number_allowed: bool = False) -> str | None:
        """Return a text, or None if it is missing or null.

        Raises:
            MalformedError: The value is no text.
        """
        value = self.values.get(key)
        if is_number_allowed and isinstance(value, int | Decimal) and not isinstance(value, bool):
            return shortened(str(value), MAX_NAME)
        if value is not None and not isinstance(value, str):
            raise malformed(self.place(key), "should be text")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false, or the default if it is missing or null.

        Raises:
            MalformedError: The value is neither.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise malformed(self.place(key), "should be true or false")
        return value

    def choice(self, key: str, names: Mapping[str, Any]) -> Any:
        """Return the meaning of one of several words, or None if it is missing or null.

        Raises:
            MalformedError: The value is not one of them.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or value not in names:
            raise malformed(self.place(key), f"should be one of {', '.join(names)}")
        return names[value]

    def texts(self, key: str, *, most: int) -> list[str]:
        """Return a list of texts; an empty list if it is missing or null.

        Raises:
            MalformedError: The value is no list of texts.
        """
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise malformed(self.place(key), "should be a list of texts")
        return value[:most]

    def objects(self, key: str, *, most: int = MAX_TESTS) -> list["Fields"]:
        """Return a list of objects; an empty list if it is missing or null.

        Raises:
            MalformedError: The value is no list of objects, or has more than ``most`` of them.
        """
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise malformed(self.place(key), "should be a list of objects")
        if len(value) > most:
            raise malformed(self.place(key), f"should have at most {most} entries")
        return [Fields(each, f"{self.place(key)}.{index}") for index, each in enumerate(value)]

    def object(self, key: str) -> "Fields | None":
        """Return an object, or None if it is missing or null.

        Raises:
            MalformedError: The value is no object.
        """
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise malformed(self.place(key), "should be an object")
        return None if value is None else Fields(value, self.place(key))


def decimal_of(text: str) -> Decimal | None:
    """Return the number in a text, or None."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def points(value: Decimal, where: str) -> Decimal:
    """Return a number as points.

    Raises:
        MalformedError: It is beyond 2^53.
    """
    try:
        return points_of(value)
    except ValueError as error:
        raise malformed(where, str(error)) from None


def seconds(value: Decimal | None, where: str) -> float | None:
    """Return a duration.

    Raises:
        MalformedError: It is negative or more than 10^9 seconds.
    """
    if value is None:
        return None
    if not 0 <= value <= 1_000_000_000:  # noqa: PLR2004
        raise malformed(where, "should be a number of seconds, 0 or more")
    return float(value)


def sum_of(values: Iterable[Decimal | None], where: str) -> Decimal | None:
    """Return the exact sum of the points that are not None, or None if all are.

    Raises:
        MalformedError: The sum is beyond 2^53.
    """
    found = total(values)
    return None if found is None else points(found, where)
