"""Files of results: JSON with all samples, tables and a plot for the documentation."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

from benchmarks.samples import Figure, Results, Summary
from benchmarks.verdicts import Verdict

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
OURS = "Broadway"  # at the beginning of the names of Broadway's contenders
PLOT = "images/performance.svg"  # relative to the document


def as_json(verdicts: Sequence[Verdict], results: Results, about: Mapping[str, str]) -> str:
    """Return goals and figures, with a description of the machine."""
    goals = [
        {"goal": v.goal.name, "measured": v.measured, "bound": v.goal.text, "verdict": v.word, "problem": v.problem}
        for v in verdicts
    ]
    content: dict[str, Any] = {"about": dict(about), "goals": goals, **results.as_json()}
    return json.dumps(content, indent=1) + "\n"


def write_document(
    path: Path,
    verdicts: Sequence[Verdict],
    results: Results,
    about: Mapping[str, str],
    *,
    image: str | None = PLOT,
) -> None:
    """Write tables into a document, in place of earlier ones; the rest of it is kept.

    ``image`` is the path of a plot of the figures, relative to the document, or None.

    Raises:
        ValueError: The document has no place for them.
    """
    text = path.read_text()
    if not re.search(f"{BEGIN}.*{END}", text, re.DOTALL):
        raise ValueError(f"{path}: expected {BEGIN} and {END}")
    block = "\n".join([BEGIN, "", *_lines(verdicts, results, about, image), "", END])
    path.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, text, flags=re.DOTALL))


def _lines(verdicts: Sequence[Verdict], results: Results, about: Mapping[str, str], image: str | None) -> Iterator[str]:
    yield ", ".join(starmap("{}: {}".format, about.items())) + "."
    yield from ("", "| goal | measured | bound | |", "| --- | --- | --- | --- |")
    for verdict in verdicts:
        measured = "-" if verdict.measured is None else f"{verdict.measured:.3g}"
        yield f"| {verdict.goal.name} | {measured} | {verdict.goal.text} | {verdict.word} |"
    yield from ("", f"![The figures by contender]({image})", "") if image else ("",)
    yield from ("Each table has the median, and the quartiles between which half of the samples lie.", "")
    for figure, by_contender in results.samples.items():
        yield from _table(figure, by_contender)
    yield from (f"* {name}: {note}." for name, note in results.notes.items())
    yield from (f"* {name} could not be measured: {reason}" for name, reason in results.problems.items())


def _table(figure: Figure, by_contender: Mapping[str, list[float]]) -> Iterator[str]:
    yield from (f"| {_title(figure)} | median | half between | samples |", "| --- | --- | --- | --- |")
    for contender, values in by_contender.items():
        found = Summary.of(values)
        yield f"| {contender} | {found.median:.3g} | {found.low:.3g} to {found.high:.3g} | {found.count} |"
    yield ""


def _title(figure: Figure) -> str:
    return f"{figure.name}, {figure.unit}" if figure.unit else figure.name


def plot(path: Path, results: Results) -> None:
    """Draw the figures that Broadway shares with others, one panel each, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - installed for benchmarks only
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415

    compared = {
        figure: found
        for figure, found in results.samples.items()
        if {name.startswith(OURS) for name in found} == {True, False}
    }
    if not compared:
        return
    rows = -(-len(compared) // 2)
    canvas = Canvas(figsize=(11, 1.9 * rows), layout="constrained")
    FigureCanvasSVG(canvas)
    for number, (figure, by_contender) in enumerate(compared.items(), 1):
        panel = canvas.add_subplot(rows, 2, number)
        found = [Summary.of(values) for values in by_contender.values()]
        spread = [[s.median - s.low for s in found], [s.high - s.median for s in found]]
        colors = ["tab:red" if name.startswith(OURS) else "tab:gray" for name in by_contender]
        panel.barh(list(by_contender), [s.median for s in found], xerr=spread, color=colors)
        panel.invert_yaxis()
        panel.set_title(_title(figure), fontsize=9)
        panel.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, format="svg", metadata={"Date": None})
