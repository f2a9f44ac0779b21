"""Graders as resources."""

from broadway.domain.grader import Grader
from broadway.messages.resources.graders import GraderView, Wanted


def grader_view(grader: Grader) -> GraderView:
    return GraderView(
        id=grader.id,
        hostname=grader.hostname,
        pool=grader.pool,
        state=grader.state.value,
        slots=grader.allowed_slots,
        reason=grader.reason,
        wanted=Wanted(mode=grader.order.mode.value, slots=grader.order.slots),
        running=list(grader.running),
        jobs_processed=grader.jobs_processed,
        last_seen=grader.last_seen,
        way=grader.link.value,
        runtime=grader.runtime,
        has_secret=grader.has_secret,
    )
