"""The faults that the suite injected and their effects, as ``docs/reliability.md`` shows them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass
class Report:
    """The rows of one session, by test."""

    rows: dict[str, str] = field(default_factory=dict)

    def row(self, key: str, injected: str, seen: str, lost: str) -> None:
        """Add a row to the table."""
        self.rows[key] = f"| {injected} | {seen} | {lost} |"

    def chaos(
        self,
        *,
        seed: int,
        jobs: int,
        faults: Mapping[str, int],
        problems: int,
        again: float,
        outcomes: Mapping[str, int],
    ) -> None:
        struck = ", ".join(f"{number} x {name}" for name, number in sorted(faults.items()))
        total, given_up = sum(outcomes.values()), outcomes["infrastructure_error"]
        self.row(
            f"chaos {seed:03}",
            f"chaos, seed {seed}: {sum(faults.values())} faults ({struck})",
            f"{total} of {jobs} jobs with one outcome, {given_up} of them given up after three starts; "
            f"{again:.1%} of the executions were repetitions",
            f"{problems} violations",
        )

    def write(self, path: Path) -> None:
        """Write the rows into the document's table, where they replace earlier rows of the same faults."""
        text = path.read_text()
        before = re.search(f"{BEGIN}(.*){END}", text, re.DOTALL)
        lines = (before.group(1) if before else "").splitlines()
        kept = {_fault(line): line for line in lines if line and not line.startswith(("| injected", "| ---"))}
        rows = sorted((kept | {_fault(row): row for row in self.rows.values()}).values())
        block = "\n".join([BEGIN, "", "| injected | seen | lost |", "| --- | --- | --- |", *rows, "", END])
        path.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, text, flags=re.DOTALL))


def _fault(row: str) -> str:
    return row.split("|")[1]
