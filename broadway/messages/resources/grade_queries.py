"""The queries of requests for files of grades, which the server checks and the client makes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broadway.domain.report import MAX_NAME
from broadway.domain.sheets.adjusting import MAX_REASON
from broadway.domain.sheets.entries import Missing
from broadway.domain.sheets.options import MAX_IDENTIFIER, MAX_KEYS, DecimalSign, Format, StudentIs

MAX_TITLE = 200  # characters
Encoding = Literal["utf-8", "windows-1252", "latin-1", "utf-16"]
_ENCODING = "the encoding of a file without a byte order mark"
_VERSION = "`published`: the grades that students see; `draft`: those of this moment; or a version's number"
_STUDENT_IS = "the identifier that the names of students in the roster are, for students without a variable for it"


KeyText = Annotated[str, StringConstraints(max_length=MAX_NAME + MAX_IDENTIFIER + 1)]
Version = Annotated[str, StringConstraints(pattern=r"^(draft|published|[1-9][0-9]{0,8})$")]


class BasisQuery(BaseModel):
    """The version of the grade book."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version = Field(default="published", description=_VERSION)


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
    key: tuple[KeyText, ...] = Field(
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


class ImportQuery(BaseModel):
    """The query of a changed sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version | None = Field(
        default=None, description="the grades to compare with; by default those of the version that the file names"
    )
    encoding: Encoding = Field(default="utf-8", description=_ENCODING)
    apply: bool = Field(default=False, description="make the changes; without it they are only shown")
    reason: str = Field(
        default="",
        max_length=MAX_REASON,
        description="the reason of changes without a reason of their own; students read it",
    )
