"""Files of grades, and the findings of their making."""

from base64 import b64decode
from datetime import datetime

from pydantic import Field

from broadway.messages.resources.base import View

MAX_LISTED = 1000  # items of each list in an answer; the counts and the files have all


class SheetFile(View):
    """A file, as the bytes that are to be stored."""

    name: str
    media_type: str
    content: str = Field(description="the bytes in base64")

    @property
    def data(self) -> bytes:
        """The bytes.

        Raises:
            ValueError: The content is not base64.
        """
        return b64decode(self.content, validate=True)


class LeftOutStudent(View):
    """A student whose grade is not in a file, with the reason."""

    student: str
    reason: str


class UnmatchedRowView(View):
    """A row of a file without a grade, with the reason. Rows are counted as in a spreadsheet, from 1."""

    row: int
    label: str
    reason: str


class ChangeView(View):
    """A changed cell."""

    row: int
    student: str
    before: str
    after: str


class SheetView(View):
    """The grades of a file: those of a version, or of the draft if it has no number."""

    version: int | None = Field(description="the version of the grade book; null for the draft")
    version_at: datetime | None = Field(description="the time at which the version was made")
    complete: bool = Field(description="whether every student has a counterpart, and every grade is known")
    errors: int = Field(description="the number of students without a grade for an error of the infrastructure")
    held: list[LeftOutStudent] = Field(description="the first students without a grade to write")
    notes: list[str] = Field(description="facts to check before the file goes on")


class ExportView(SheetView):
    """A new file of grades."""

    file: SheetFile
    counts: dict[str, int]
    left_out: list[LeftOutStudent] = Field(description="the first students that the file could not name")


class MergeView(SheetView):
    """A file with grades merged into one of its columns. Texts are those of the file and of rosters: escape them."""

    file: SheetFile
    unmatched: SheetFile = Field(description="CSV with all students without a row, and all rows without a grade")
    lms: str
    column: str
    counts: dict[str, int]
    changes: list[ChangeView] = Field(description="the first changed cells")
    unmatched_students: list[LeftOutStudent]
    unmatched_rows: list[UnmatchedRowView]


class AdjustmentPreview(View):
    """A change that a sheet makes to a student's grade. Points are decimal numbers as text; null for no score."""

    row: int
    student: str
    before: str | None
    after: str | None
    excused: bool
    reason: str


class ImportView(View):
    """The changes in a sheet, compared with the version of the grade book from which it was made."""

    version: int | None = Field(description="the version of the grade book; null for the draft")
    applied: bool
    counts: dict[str, int]
    changes: list[AdjustmentPreview] = Field(description="the first changes that can be made, or were made")
    obstacles: list[LeftOutStudent] = Field(description="the first changes that must not be made; one stops all")
    unknown: list[UnmatchedRowView] = Field(description="the first rows of students without a grade")
    absent: list[LeftOutStudent] = Field(description="the first students that the sheet does not name")
