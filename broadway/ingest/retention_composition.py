"""Composing the parts of retention."""

from datetime import timedelta

from broadway.ingest.commands.retention import Retention, RetentionSteps
from broadway.ingest.commands.retention_pass import Old
from broadway.ingest.commands.student_deletion import DeletionSteps, StudentDeletion
from broadway.ingest.grade_composition import grade_reads
from broadway.ingest.reads.retention_works import WorkChoice
from broadway.lifecycle.orders import Orders
from broadway.mongo.store import Store
from broadway.settings.retention import RetentionSettings


def retention_of(settings: RetentionSettings, store: Store) -> Retention:
    """Return the requests about retention."""
    return Retention(store.retention, settings.policy)


def retention_steps(settings: RetentionSettings, store: Store, holder: str) -> RetentionSteps:
    """Return the background steps of retention; ``holder`` is a unique name of this process."""
    return RetentionSteps(
        retention=retention_of(settings, store),
        courses=store.courses,
        leases=store.leases,
        audit=store.audit,
        old=old_of(store),
        holder=holder,
        between=timedelta(hours=settings.hours),
        clock_of_store=store.clock,
    )


def deletion_of(store: Store) -> StudentDeletion:
    """Return the requests about the deletion of a student's data."""
    return StudentDeletion(store.student_erasure.deletions, store.student_erasure, store.secrets)


def deletion_steps(store: Store, orders: Orders, holder: str) -> DeletionSteps:
    """Return the background steps of deletions; ``holder`` is a unique name of this process."""
    return DeletionSteps(
        deletions=store.student_erasure.deletions,
        erasure=store.student_erasure,
        jobs=store.jobs,
        orders=orders,
        leases=store.leases,
        audit=store.audit,
        files=store.reports,
        holder=holder,
    )


def old_of(store: Store) -> Old:
    """Return the stores that passes read and remove from."""
    choices, regrades = store.grades.choices, store.grades.regrades
    return Old(
        assignments=store.assignments,
        works=WorkChoice(grade_reads(store), store.removals, regrades, choices),
        removals=store.removals,
        regrades=regrades,
        deliveries=store.deliveries,
        runs=store.runs,
        tokens=store.access_tokens,
        dead_letters=store.dead_letters,
        graders=store.old_graders,
        stored_bytes=store.stored_bytes,
        files=store.reports,
    )
