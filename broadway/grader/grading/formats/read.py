"""Reading a stage's results files, in the format that its config names."""

from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from broadway.domain.mistakes import mistakes
from broadway.domain.originals import MAX_ALL, MAX_FILE, MAX_FILES
from broadway.domain.report import Report
from broadway.grader.grading.formats import autolab, classroom, ctrf, gradescope, junit, prairielearn, tap
from broadway.grader.grading.formats.malformed import File, MalformedError
from broadway.grader.grading.formats.worth import Worth

MAX_REPORT = 4 * 1024 * 1024  # bytes of a report as stored

Reader = Callable[[Sequence[File], Worth], Report]

_READERS: Mapping[str, Reader] = {
    "gradescope": lambda files, _: gradescope.read(files[0].data),
    "prairielearn": lambda files, _: prairielearn.read(files[0].data),
    "junit": junit.read,
    "ctrf": lambda files, worth: ctrf.read(files[0].data, worth),
    "classroom": lambda files, _: classroom.read(files),
    "autolab": lambda files, _: autolab.read(files[0].data),
    "tap": lambda files, worth: tap.read(files[0].data, worth),
}


class InvalidReportError(ValueError):
    """Results files are not valid. The text names the file, the field and the expected form, and quotes no file."""


def read(name: str, files: Sequence[File], worth: Worth | None = None) -> Report:
    """Read results files of a format.

    Args:
        name: The format.
        files: One file or more; only some formats have several.
        worth: The points of tests without points of their own.

    Raises:
        InvalidReportError: The files are not valid, too large, or too many.
    """
    where = files[0].path if len(files) == 1 else f"{len(files)} files"
    if len(files) > MAX_FILES or any(len(file.data) > MAX_FILE for file in files):
        raise InvalidReportError(f"{where}: should be at most {MAX_FILES} files of {MAX_FILE} bytes each")
    if sum(len(file.data) for file in files) > MAX_ALL:
        raise InvalidReportError(f"{where}: should have at most {MAX_ALL} bytes together")
    try:
        report = _READERS[name](files, worth or Worth())
    except MalformedError as error:
        raise InvalidReportError(f"{where}: {error}") from None
    except ValidationError as error:  # a bound of the report itself
        raise InvalidReportError(f"{where}: {mistakes(error, Report)[0]}") from None
    if len(report.stored().encode()) > MAX_REPORT:
        raise InvalidReportError(f"{where}: the report should have at most {MAX_REPORT} bytes")
    return report
