"""Composing the parts of grades: their reads, and the changes of books, extensions, claims and regrades."""

from broadway.ingest.commands.claims import StudentClaims
from broadway.ingest.commands.extensions import ExtensionChanges
from broadway.ingest.commands.grade_adjustments import GradeAdjusting
from broadway.ingest.commands.grade_commands import GradeCommands
from broadway.ingest.commands.grades import GradeChanges
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.regrade import Regrades
from broadway.ingest.commands.regrade_plan import RegradePlanner
from broadway.ingest.commands.regrade_steps import RegradeSteps
from broadway.ingest.reads.grades import GradeReads
from broadway.ingest.reads.handed_in import HandedInReads
from broadway.ingest.reads.members import MemberReads
from broadway.ingest.reads.regrades import RegradeReads
from broadway.ingest.reads.standings import StandingReads
from broadway.ingest.reads.works import WorkQueries, WorkReads
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.orders import Orders
from broadway.mongo.store import Store


def grade_commands(
    store: Store, limits: Limits, standings: StandingReads, orders: Orders, announcements: Announcements
) -> GradeCommands:
    """Return the use cases that change grades, and all that decides on them."""
    grades, regrades = grade_reads(store), _regrades(store, limits, grade_reads(store))
    assignments, settings, rosters = store.assignments, store.assignment_settings, store.rosters
    return GradeCommands(
        books=GradeChanges(store.grades.books, grades),
        adjusting=GradeAdjusting(store.grades.adjustments, grades),
        extensions=ExtensionChanges(assignments, settings, rosters, store.grades.extensions),
        claims=StudentClaims(standings, store.grades.claims, store.grades.choices),
        regrades=regrades,
        regrade_steps=_regrade_steps(store, regrades, orders, announcements),
    )


def regrade_reads(store: Store, grades: GradeReads) -> RegradeReads:
    """Return the reads of regrades."""
    return RegradeReads(store.grades.regrades, grades, store.rosters, store.jobs, store.runs, store.reports)


def _planner(store: Store, grades: GradeReads) -> RegradePlanner:
    members, works = grades.members, store.grades.works
    return RegradePlanner(works, grades, members, store.rosters, store.courses, store.jobs, store.runs)


def _regrades(store: Store, limits: Limits, grades: GradeReads) -> Regrades:
    return Regrades(
        regrades=store.grades.regrades,
        planner=_planner(store, grades),
        assignments=store.assignments,
        limits=limits,
        diffs=regrade_reads(store, grades),
        books=store.grades.books,
        grades=GradeChanges(store.grades.books, grades),
    )


def _regrade_steps(store: Store, regrades: Regrades, orders: Orders, announcements: Announcements) -> RegradeSteps:
    return RegradeSteps(
        regrades=store.grades.regrades,
        publications=regrades,
        planner=regrades.planner,
        courses=store.courses,
        runs=store.runs,
        jobs=store.jobs,
        orders=orders,
        announcements=announcements,
        reports=store.reports,
        logs=store.logs,
    )


def standing_reads(store: Store, grades: GradeReads) -> StandingReads:
    """Return the reads of students' standings."""
    return StandingReads(
        assignments=store.assignments,
        settings=store.assignment_settings,
        rosters=store.rosters,
        extensions=store.grades.extensions,
        claims=store.grades.claims,
        choices=store.grades.choices,
        handed_in=HandedInReads(store.submissions, store.deliveries, store.jobs, store.reports),
        graded=grades.works,
        charged=grades,
        books=store.grades.books,
    )


def grade_reads(store: Store, works: WorkQueries | None = None) -> GradeReads:
    """Return the reads of grades; ``works`` are the store's unless they are given."""
    return GradeReads(
        books=store.grades.books,
        adjusted=store.grades.adjustments,
        settings=store.assignment_settings,
        assignments=store.assignments,
        extensions=store.grades.extensions,
        members=MemberReads(store.rosters, store.grades.claims, store.grades.choices),
        works=WorkReads(works or store.grades.works, store.deliveries, store.jobs, store.reports),
    )
