"""Post-processing: make the class report from the run's outcomes, and send it to the course server."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import course

Row = dict[str, Any]


def report(run: str, rows: list[Row]) -> str:
    """Return the class report, in Markdown."""
    return "\n".join([f"# Class report, run {run}", "", *_summary(rows), "", *_table(rows), ""])


def _summary(rows: list[Row]) -> Iterator[str]:
    yield f"{len(rows)} students."
    yield ""
    for outcome, count in Counter(row["outcome"].replace("_", " ") for row in rows).most_common():
        yield f"- {outcome}: {count}"


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| student | outcome | tests passed | seconds | remark |"
    yield "| --- | --- | --- | --- | --- |"
    for row in sorted(rows, key=lambda row: str(row["student"])):
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        cells = [row["student"], row["outcome"].replace("_", " "), row["score"] or "", seconds, row["reason"] or ""]
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def main() -> None:
    rows = json.loads(course.get(course.run_path("outcomes")))
    text = report(course.run_path("").split("/")[2], rows)
    course.put(course.run_path("report"), text.encode())
    print(text)


if __name__ == "__main__":
    main()
