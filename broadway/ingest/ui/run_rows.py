"""The rows of the page of a run as HTML. A row is rendered once: equal rows have the same HTML."""

from functools import lru_cache

from broadway.ingest.reads.run_tables import RunRow
from broadway.ingest.ui.templating import fragment

MAX_KEPT = 4_000


@lru_cache(MAX_KEPT)
def html_of(row: RunRow) -> str:
    """Return a row as HTML. It shows nothing but the row's values, so that it is the same for all who look at it."""
    return fragment("_row.html", "of", row)
