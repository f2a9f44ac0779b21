"""The latest actions on an object, which its page shows beside it, with a link to all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from broadway.domain.audit import AuditRecord
from broadway.domain.audit_objects import About
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Load

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Actions:
    """The latest actions on an object, and the address of all."""

    records: Sequence[AuditRecord]
    address: str


async def actions_on(deps: Deps, course: str | None, kind: str, name: str = "", *, shared: bool = False) -> Actions:
    """Return the latest actions on an object of a course, or of the deployment.

    ``shared``: the page has no turn of its own among the reads, so that this read needs one.
    """
    about = About(kind, name)
    async with deps.shares.turn(Load.SMALL if shared else Load.SHARED):
        found = await deps.reads.audit.latest(course=course, paths=about.paths(course or ""), after=None, limit=SHOWN)
    base = f"/ui/c/{course}/audit" if course else "/ui/ops/audit"
    return Actions(found.items, f"{base}?about={about.text}")
