"""Write the table of docs/access.md: the credentials that each operation takes, from the OpenAPI documents.

With ``--check``, change nothing, and exit with 1 if the table is out of date.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from broadway.ingest.v1 import openapi as v1
from broadway.ingest.v2.docs_page import document

DOCUMENT = Path(__file__).parent.parent / "docs" / "access.md"
BEGIN, END = "<!-- operations: generated -->\n\n", "\n<!-- end of operations -->"
METHODS = ("get", "post", "put", "patch", "delete")
SCHEMES = {
    "courseToken": "staff",
    "queryToken": "query",
    "studentToken": "student",
    "operatorToken": "operator",
    "joinToken": "join",
    "graderSecret": "grader",
    "metricsToken": "metrics",
    "signature": "signature",
    "course": "staff",
    "query": "query",
    "cluster": "grader",
}
COLUMNS = tuple(dict.fromkeys(SCHEMES.values()))


def operations() -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """Yield the method, path, id and credentials of each operation of v2, then of v1."""
    yield from _of(document(), "")
    yield from _of(YAML(typ="safe", pure=True).load(v1.document()), "/api/v1")


def _of(described: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    for path, item in described["paths"].items():
        for method in METHODS:
            if method in item:
                security = item[method].get("security", described.get("security", []))
                schemes = frozenset(SCHEMES[name] for each in security for name in each)
                yield method.upper(), prefix + path, item[method]["operationId"], schemes


def table() -> str:
    rows = [["operation", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    for method, path, _, schemes in operations():
        rows.append([f"`{method} {path}`", *("yes" if column in schemes else "" for column in COLUMNS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def main() -> None:
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(BEGIN)
    wanted = head + BEGIN + table() + END + rest.partition(END)[2]
    if "--check" in sys.argv:
        sys.exit(0 if text == wanted else f"{DOCUMENT} is out of date: run {Path(__file__).name}")
    DOCUMENT.write_text(wanted)


if __name__ == "__main__":
    main()
