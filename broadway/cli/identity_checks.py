"""The doctor's checks of identities: which pools admit graders without secrets, and whether operators have a token."""

from collections.abc import Iterable

from broadway.cli.findings import Finding, ok, warning
from broadway.mongo.inspection import Inspection
from broadway.settings.programs import IngestSettings, ServiceSettings

MAX_NAMED = 5  # graders in one finding


def identities(inspection: Inspection, settings: ServiceSettings) -> Iterable[Finding]:
    """Judge who may speak in the name of graders and operators."""
    open_pools = [pool for pool in inspection.pools if pool.original_graders]
    for pool in open_pools:
        live = [each.id for each in inspection.graders if each.pool == pool.id and not each.has_secret]
        users = f"at present {_named(live)}" if live else "at present there is none"
        yield warning(
            "identity",
            f"pool {pool.id} admits graders without a secret ({pool.reason}): {users}; every holder of the cluster "
            "token can take its jobs and report their outcomes",
            f"once it has no grader of the original, `broadway pool set {pool.id} --original-graders off`",
        )
    if not open_pools:
        yield ok("identity", "every pool demands a secret of each grader behind the API")
    if isinstance(settings, IngestSettings) and settings.operator_token is None:
        text = "these settings have no operators' token: all requests of operators are refused"
        yield warning("identity", text, "give the API one, --operator-token or BROADWAY_OPERATOR_TOKEN")


def _named(ids: list[str]) -> str:
    return ", ".join(sorted(ids)[:MAX_NAMED]) + (", …" if len(ids) > MAX_NAMED else "")
