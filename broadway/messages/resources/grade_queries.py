"""The queries of requests for files of grades, which the server checks and the client makes."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from broadway.domain.report import MAX_NAME
from broadway.domain.sheets.adjusting import MAX_REASON
from broadway.domain.sheets.entries import Missing
from broadway.domain.sheets.options import MAX_KEYS, DecimalSign, Format, StudentIs

MAX_TITLE = 200  # characters
MAX_VERSION = 10**9
Encoding = Literal["utf-8", "windows-1252", "latin-1", "utf-16"]
_ENCODING = "the encoding of a file without a byte order mark"
_VERSION = "a version of the grade book; by default the published one"
_STUDENT_IS = "the identifier that the names of students in the roster are, for students without a variable for it"


class BasisQuery(BaseModel):
    """The version of the grade book."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int | None = Field(default=None, ge=1, le=MAX_VERSION, description=_VERSION)
    draft: bool = Field(default=False, description="the grades of the moment instead of a version")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.draft and self.version is not None:
            raise ValueError("expected version or draft, not both")
        return self


class ExportQuery(BasisQuery):
    """The query of an export."""

    format: Format = Field(default=Format.CSV, description="the file's columns")
    title: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TITLE)] | None = Field(
        default=None, description="the assignment's title in the system, by default its id"
    )
    canvas_id: int | None = Field(default=None, ge=1, le=2**63, description="the assignment's id in Canvas")
    missing: Missing = Field(default=Missing.LEAVE, description="the cell of a student without a submission")
    decimal: DecimalSign = Field(default=DecimalSign.POINT, description="the decimal sign")
    student_is: StudentIs | None = Field(default=None, description=_STUDENT_IS)
    answer: Literal["file", "json"] = Field(default="file", description="`json`: the file with all findings")


class MergeQuery(BasisQuery):
    """The query of a merge."""

    column: str = Field(min_length=1, max_length=MAX_NAME, description="the column whose cells get the scores")
    key: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_KEYS,
        description="`COLUMN=IDENTIFIER`: a column that has an identifier of students; may be repeated",
    )
    by_name: bool = Field(default=False, description="match by full name where no identifier matches")
    missing: Missing = Field(default=Missing.LEAVE, description="the cell of a student without a submission")
    decimal: DecimalSign = Field(default=DecimalSign.POINT, description="the decimal sign of new scores")
    encoding: Encoding = Field(default="utf-8", description=_ENCODING)
    student_is: StudentIs | None = Field(default=None, description=_STUDENT_IS)
    answer: Literal["file", "unmatched", "json"] = Field(
        default="file", description="`unmatched`: the list of all without a counterpart; `json`: both with all findings"
    )


class ImportQuery(BasisQuery):
    """The query of a changed sheet."""

    encoding: Encoding = Field(default="utf-8", description=_ENCODING)
    apply: bool = Field(default=False, description="make the changes; without it they are only shown")
    reason: str = Field(
        default="", max_length=MAX_REASON, description="the reason of changes whose rows have none; students read it"
    )
