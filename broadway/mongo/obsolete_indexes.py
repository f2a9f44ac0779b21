"""Indexes that earlier versions have created, and that no query of this version needs.

A server refuses an index with the name of another one, and another index with the same fields. So services of this
version could not start on a store that has the obsolete ones.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObsoleteIndex:
    """An index by its collection, its name, and its fields with their directions."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]


OBSOLETE = (
    ObsoleteIndex("grading_job", "by_run", (("grading_run_id", 1), ("type", 1), ("index", 1))),
    ObsoleteIndex("grading_job", "open_by_run", (("grading_run_id", 1), ("state", 1))),
    ObsoleteIndex("grading_job", "outbox", (("state", 1), ("publish_at", 1))),
    ObsoleteIndex("grading_job", "leases", (("state", 1), ("lease_expires_at", 1))),
    ObsoleteIndex(
        "grading_job", "backlog", (("course", 1), ("state", 1), ("class", 1), ("queued_at", 1), ("index", 1))
    ),
    ObsoleteIndex("grading_job", "by_state", (("state", 1),)),
    ObsoleteIndex("grading_run", "by_state", (("state", 1), ("started_at", 1))),
    ObsoleteIndex("grading_run", "by_assignment", (("assignment_id", 1), ("started_at", -1))),
    ObsoleteIndex("hook_delivery", "by_hook", (("course", 1), ("hook", 1), ("received_at", -1))),
    ObsoleteIndex("job_outcome", "of_students_work", (("course", 1), ("assignment", 1), ("handed_in.student", 1))),
    ObsoleteIndex("job_outcome", "of_student", (("course", 1), ("assignment", 1), ("student", 1))),
    ObsoleteIndex("job_outcome", "of_assignment", (("course", 1), ("assignment", 1), ("finished_at", 1))),
)

# Indexes that the version before still creates and needs. Each service drops them when it has created those of this
# version: the queries of both versions use the new ones.
REPLACED = (ObsoleteIndex("grading_job", "by_state_and_pool", (("state", 1), ("pool", 1))),)
