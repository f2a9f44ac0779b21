"""Times by the clock of a zone: nights in which clocks change, days of late submissions, and their texts."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from broadway.domain.clock import Clock, Moment, Zone

BERLIN = Clock.of("Europe/Berlin")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("written", "begins", "ends"),
    [
        ("2026-12-04T23:59", "2026-12-04T22:59", "2026-12-04T22:59"),
        ("2026-07-04T23:59", "2026-07-04T21:59", "2026-07-04T21:59"),
        ("2026-10-25T02:30", "2026-10-25T00:30", "2026-10-25T01:30"),  # exists twice
        ("2026-03-29T02:30", "2026-03-29T00:30", "2026-03-29T01:30"),  # does not exist
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30", "2026-10-25T01:30"),
        ("2026-10-25T02:30Z", "2026-10-25T02:30", "2026-10-25T02:30"),
    ],
)
def test_a_time_that_is_not_unique_is_read_in_the_students_favor(written: str, begins: str, ends: str) -> None:
    moment = local(written)

    assert (BERLIN.begins(moment), BERLIN.ends(moment)) == (utc(begins), utc(ends))


@pytest.mark.parametrize(
    ("due", "at", "days"),
    [
        ("2026-12-04T23:59", "2026-12-04T22:59:00", 0),
        ("2026-12-04T23:59", "2026-12-04T23:04:00", 0),  # the end of the grace
        ("2026-12-04T23:59", "2026-12-04T23:04:01", 1),
        ("2026-12-04T23:59", "2026-12-07T23:04:00", 3),
        ("2026-12-04T23:59", "2026-12-07T23:04:01", 4),
        ("2026-10-24T23:59", "2026-10-25T23:04:00", 1),  # a day of 25 hours
        ("2026-10-24T23:59", "2026-10-25T23:04:01", 2),
        ("2026-03-28T23:59", "2026-03-29T22:04:00", 1),  # a day of 23 hours
        ("2026-03-28T23:59", "2026-03-29T22:04:01", 2),
        ("2026-10-24T02:30", "2026-10-25T01:35:00", 1),  # its end exists twice
        ("2026-10-24T02:30", "2026-10-25T01:35:01", 2),
        ("2026-12-04T23:59+00:00", "2026-12-05T23:59:00", 1),
        ("2026-12-04T23:59", "2036-12-04T23:04:00", 3653),
    ],
)
def test_a_late_day_ends_at_the_due_time_of_day(due: str, at: str, days: int) -> None:
    assert BERLIN.days_after(local(due), utc(at), 5 * MINUTE) == days


def test_a_day_that_a_zone_leaves_out_is_over_with_the_next_one() -> None:
    apia, due = Clock.of("Pacific/Apia"), local("2011-12-29T23:59")  # 30 December 2011 did not exist there

    assert apia.days_after(due, utc("2011-12-31T09:59:00"), timedelta()) == 1
    assert apia.days_after(due, utc("2011-12-31T09:59:01"), timedelta()) == 3


def test_a_moment_moves_by_the_clock() -> None:
    assert BERLIN.moved(local("2026-10-24T12:00"), DAY) == local("2026-10-25T12:00")
    assert BERLIN.moved(utc("2026-10-24T10:00"), DAY) == local("2026-10-25T12:00")
    assert BERLIN.moved(utc("2026-10-25T00:30"), timedelta()) == utc("2026-10-25T00:30")


@pytest.mark.parametrize(
    ("zone", "at", "text"),
    [
        ("Europe/Berlin", "2026-12-04T22:59:00", "4 Dec 2026, 23:59 CET"),
        ("Europe/Berlin", "2026-07-04T21:59:05", "4 Jul 2026, 23:59:05 CEST"),
        ("America/Sao_Paulo", "2026-12-05T02:59:00", "4 Dec 2026, 23:59 UTC-03"),
        ("UTC", "2026-01-01T00:00:00", "1 Jan 2026, 00:00 UTC"),
    ],
)
def test_a_time_is_shown_with_its_zone(zone: str, at: str, text: str) -> None:
    assert Clock.of(zone).shown(utc(at)) == text


@pytest.mark.parametrize(
    "value",
    [
        "2026-12-04",
        "2026-12-04 23:59",
        "tomorrow",
        1796425140,
        "1796425140",
        "2026-02-30T12:00",
        "1969-01-01T00:00",
        None,
        "9999-01-01T00:00",
        "2026-12-04T24:01",
        "2026-12-04T23:59+1",
    ],
    ids=repr,
)
def test_a_text_that_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Moment).validate_python(value)


@pytest.mark.parametrize(
    "name", ["", "Berlin", "Europe/Atlantis", "../../etc/passwd", "Europe", "Europe/", "localtime", "a" * 65]
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Zone).validate_python(name)


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "America/Indiana/Knox", "Etc/GMT+5", "America/Port-au-Prince"]
)
def test_zones_have_the_names_of_places(name: str) -> None:
    assert TypeAdapter[str](Zone).validate_python(name) == name


def test_a_time_is_the_same_when_stored_and_read() -> None:
    adapter = TypeAdapter[datetime](Moment)
    for text in ("2026-12-04T23:59", "2026-12-04T23:59:01.5", "2026-12-04T23:59+02:00", "2026-12-04T23:59Z"):
        moment = adapter.validate_python(text)
        assert adapter.validate_python(adapter.dump_python(moment, mode="json")) == moment


def test_a_host_without_zones_has_those_of_the_package() -> None:
    shown = "from broadway.domain.clock import Clock; print(Clock.of('Europe/Berlin').zone)"
    environment = {**os.environ, "PYTHONTZPATH": ""}

    assert subprocess.check_output([sys.executable, "-c", shown], env=environment, text=True) == "Europe/Berlin\n"
