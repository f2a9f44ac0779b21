"""Reading the report of a stage: its results files, in the format that its config names, or what it printed."""

from collections.abc import Sequence

from broadway.domain.originals import MAX_ALL, MAX_FILE, MAX_FILES, OriginalFile, Reported
from broadway.domain.results_setting import ResultsSetting
from broadway.grader.grading.files import TooLargeError, UnsafeFileError
from broadway.grader.grading.formats.malformed import File
from broadway.grader.grading.formats.read import InvalidReportError, read
from broadway.grader.grading.formats.worth import Worth
from broadway.grader.grading.verdict import is_complete
from broadway.grader.grading.workspace import Workspace
from broadway.grader.ports import StageRun
from broadway.grader.sandbox.output import STAMP

PRINTED = "stdout"  # the path of printed results
MAX_REASON = 400  # characters of a problem
_STDOUT, _OMITTED = 1, 0  # streams of a stage's output


def collect(run: StageRun, setting: ResultsSetting, space: Workspace, remaining: int) -> Reported | None:
    """Return the report of a stage that ran, with the original files; blocks.

    Of a stage that broke a limit or could not start, return its files only, and None if it left no file.
    ``remaining`` is the number of bytes that the report and its files may have.
    """
    reason = _why_not(run, setting)
    try:
        files = _printed(run, setting) if setting.path is None else _files(setting, space)
    except TooLargeError as error:
        kept = [OriginalFile.of(error.path, error.beginning)]
        return _bounded(Reported(problem=reason or f"{error}; its beginning is kept", files=kept), remaining)
    except UnsafeFileError as error:
        return Reported(problem=reason or str(error)[:MAX_REASON]) if is_complete(run) else None
    kept = [OriginalFile.of(file.path, file.data) for file in files]
    if reason:
        return _bounded(Reported(problem=reason, files=kept), remaining)
    try:
        report = read(setting.format, files, Worth(setting.worth))
    except InvalidReportError as error:
        return _bounded(Reported(problem=str(error)[:MAX_REASON], files=kept), remaining)
    return _bounded(Reported(report=report, files=kept), remaining)


def _why_not(run: StageRun, setting: ResultsSetting) -> str:
    """Return the reason for which a stage's results do not count, whatever they are; empty if they may count."""
    if not is_complete(run):
        return "the stage did not end by itself, so its results do not count"
    if setting.needs_success and run.exit_code:
        return f"the stage ended with exit code {run.exit_code}; results of {setting.format} count after 0 only"
    if setting.format == "tap" and setting.path is None and any(stream == _OMITTED for stream, _ in run.streams):
        return "the stage printed more than is kept of its output: write the results to a file, and give its path"
    return ""


def _printed(run: StageRun, setting: ResultsSetting) -> list[File]:
    """Return what a stage printed, without the times that the grader puts before each line."""
    lines = run.output.split("\n")
    sources = [stream for stream, count in run.streams for _ in range(count)]
    own = [line[STAMP:] for index, line in enumerate(lines) if index >= len(sources) or sources[index] == _STDOUT]
    data = "\n".join(own).encode("utf-8", "replace")
    return [File(PRINTED, data[-MAX_FILE:] if setting.format == "autolab" else data[:MAX_FILE])]


def _files(setting: ResultsSetting, space: Workspace) -> list[File]:
    """Return the files of a path.

    Raises:
        UnsafeFileError: No file exists, or there are too many or too much; or one is a link or no regular file.
    """
    assert setting.path is not None  # noqa: S101 - the caller has checked it
    paths: Sequence[str] = [setting.path]
    if setting.is_glob:
        paths = space.matching(setting.path, most=MAX_FILES)
    files: list[File] = []
    for path in paths:
        files.append(File(path, space.read(path, limit=MAX_FILE)))
        if sum(len(file.data) for file in files) > MAX_ALL:
            raise UnsafeFileError(f"{setting.path}: the files have more than {MAX_ALL} bytes together")
    return files


def _bounded(reported: Reported, remaining: int) -> Reported:
    """Return a report if it fits into the rest of a job's results, or a problem instead."""
    if reported.size <= remaining:
        return reported
    problem = "the results of all stages together are larger than a job may have"
    return Reported(problem=reported.problem or problem, files=reported.without_bytes().files)
