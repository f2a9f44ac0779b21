"""The reason why the total of a report is what it is, in one sentence. Pure."""

from broadway.domain.report import Report, shown, total
from broadway.domain.visibility import Role


def why_total(report: Report, role: Role) -> str:
    """Return why a report, as a role sees it, has its total.

    A student must not learn from it whether, or how many, tests are hidden.
    """
    if report.score is None:
        return "no points are shown for this result" if role is Role.STUDENT else "the autograder gave no points"
    sum_ = total(test.score for test in report.tests)
    if sum_ is None:
        return "the autograder gives the points as a whole"
    if sum_ == report.score:
        return f"{_tests(report)} {shown(sum_)}"
    difference = report.score - sum_
    if difference > 0:
        return f"{_tests(report)} {shown(sum_)}, and the autograder adds {shown(difference)}"
    return f"{_tests(report)} {shown(sum_)}, and the autograder takes {shown(-difference)} away"


def _tests(report: Report) -> str:
    counted = sum(test.score is not None for test in report.tests)
    return "1 test gives" if counted == 1 else f"{counted} tests give"
