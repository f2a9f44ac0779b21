"""Deletions of students' data as a resource."""

from broadway.domain.deletion import Deletion
from broadway.messages.resources.students import DeletionView

NOT_REACHED = (
    "log files of services and of proxies, until the host rotates them",
    "graders' caches of files, until newer files replace them",
    "backups, and what callbacks have sent",
    "free texts of staff, logs of phases for a whole roster, and jobs that name no student in v2's form",
    "contents of files, for at most a day",
)


def deletion_view(deletion: Deletion, *, is_dry: bool = False) -> DeletionView:
    return DeletionView(
        student=deletion.pseudonym,
        number=deletion.number,
        dry_run=is_dry,
        ordered_at=deletion.ordered_at,
        by=deletion.by,
        reason=deletion.reason,
        counts=dict(deletion.counts),
        ended_at=deletion.ended_at,
        digest=deletion.digest,
        not_reached=list(NOT_REACHED),
    )
