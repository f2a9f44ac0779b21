"""Grades of a small class."""

from decimal import Decimal

from broadway.domain.sheets.entries import Entry, EntryStatus


def grade(student: str, score: str | None, status: EntryStatus | None = None, **identifiers: str) -> Entry:
    status = status or (EntryStatus.MISSING if score is None else EntryStatus.GRADED)
    value = None if score is None else Decimal(score)
    return Entry(student=student, status=status, score=value, maximum=Decimal(20), identifiers=identifiers)


ADA = grade("ada", "17.5", sis_id="00246", username="ada@x.edu", name="Ada Lovelace")
BOB = grade("bob", "-1", sis_id="00247", email="bob@x.edu", username="BOB@x.edu")
CYD = grade("cyd@x.edu", None, email="cyd@x.edu")
DAN = grade("dan", "3", sis_id="00301")
CLASS = [ADA, BOB, CYD, DAN]
