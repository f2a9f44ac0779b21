"""Times by the clock of a time zone. Pure.

Staff write times as the clocks of the course show them. In one night of the year an hour exists twice, and in another
one an hour is missing; a time in such an hour is read in the student's favor.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FIRST, _LAST = 1970, 9000  # years
_WRITTEN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
_ZONE = r"UTC|[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+)+"  # not `localtime`, which is another zone on each host
_READINGS = (0, 1)  # of a time that exists twice or not at all: `fold` in Python


def _as_written(value: Any) -> Any:
    """Refuse numbers, and dates without a time, which would be read as the beginning of the day."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.fullmatch(_WRITTEN, value)):
        return value
    raise ValueError("expected a date and a time, such as 2026-12-04T23:59, with or without an offset")


def _known(moment: datetime) -> datetime:
    if not _FIRST < moment.year < _LAST:
        raise ValueError(f"expected a time after {_FIRST} and before {_LAST}")
    return moment


def _zone_name(name: str) -> str:
    try:
        if re.fullmatch(_ZONE, name) and ZoneInfo(name):
            return name
    except (ValueError, OSError, KeyError):  # a directory of the data base is an OSError
        pass
    raise ValueError("expected the name of a time zone, such as Europe/Berlin or UTC")


Moment = Annotated[
    datetime,
    BeforeValidator(_as_written),
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "pattern": f"^{_WRITTEN}$", "examples": ["2026-12-04T23:59"]}),
]
Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone_name)]


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of a time zone. A moment is a time by this clock, or an exact time if it has an offset."""

    zone: ZoneInfo

    @classmethod
    def of(cls, name: str) -> "Clock":
        """Return the clock of a zone by its name, which has been checked."""
        return cls(ZoneInfo(name))

    def begins(self, moment: datetime) -> datetime:
        """Return the time in UTC at which a period that begins at a moment begins: the earlier reading."""
        return min(self._readings(moment))

    def ends(self, moment: datetime) -> datetime:
        """Return the time in UTC at which a period that ends at a moment ends: the later reading."""
        return max(self._readings(moment))

    def wall(self, moment: datetime) -> datetime:
        """Return a moment as the clock shows it, without an offset."""
        return moment if moment.tzinfo is None else moment.astimezone(self.zone).replace(tzinfo=None)

    def moved(self, moment: datetime, by: timedelta) -> datetime:
        """Return the moment that the clock shows after ``by``: a day later is the same time of the next day."""
        return self.wall(moment) + by if by else moment

    def days_after(self, moment: datetime, at: datetime, grace: timedelta) -> int:
        """Return the smallest number of days by which a moment must move so that its end, with a grace, is not past."""
        days = max(0, (at - self.ends(moment) - grace) // timedelta(days=1) - 1)
        while self.ends(self.moved(moment, timedelta(days=days))) + grace < at:
            days += 1
        return days

    def shown(self, at: datetime) -> str:
        """Return a time with its zone, such as `4 Dec 2026, 23:59 CET`."""
        return _shown(self.zone, at.astimezone(UTC))

    def _readings(self, moment: datetime) -> tuple[datetime, ...]:
        return (moment.astimezone(UTC),) if moment.tzinfo is not None else _readings(self.zone, moment)


@lru_cache(maxsize=1024)
def _shown(zone: ZoneInfo, at: datetime) -> str:
    local = at.astimezone(zone)
    seconds = f":{local:%S}" if local.second or local.microsecond else ""
    name = local.tzname() or ""
    shown_zone = f"UTC{name}" if name[:1] in "+-" else name
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {local:%H:%M}{seconds} {shown_zone}"


@lru_cache(maxsize=1024)
def _readings(zone: ZoneInfo, moment: datetime) -> tuple[datetime, ...]:
    """Return the readings of a moment without an offset; all students of a class have the same moments."""
    return tuple(moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in _READINGS)
