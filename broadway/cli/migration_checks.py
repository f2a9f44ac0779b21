"""The doctor's check of migrations."""

from collections.abc import Iterable

from broadway.cli.findings import Finding, warning
from broadway.mongo.inspection import Inspection


def migrations(inspection: Inspection) -> Iterable[Finding]:
    """Find migrations that are pending, and those that only a later version knows."""
    if pending := [each.name for each in inspection.migrations if each.summary and each.is_pending]:
        text = f"migrations are pending: {', '.join(pending)}"
        yield warning("store", text, "services carry them out when they start; `broadway migrate` does so now")
    if later := [each.name for each in inspection.migrations if not each.summary]:
        text = f"a later version has migrated the store: {', '.join(later)}"
        yield warning("store", text, "use that version's commands, and upgrade the services that are older")
