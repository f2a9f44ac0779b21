"""Results of measurements: samples by figure and contender, with medians and ratios."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Figure:
    """A quantity that is measured for every contender, with its unit."""

    name: str
    unit: str


class MissingError(LookupError):
    """A figure was not measured; the text names the contender, and the reason if it is known."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of some samples, and the quartiles between which half of them lie."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> "Summary":
        low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(middle, low, high, len(values))


@dataclass(slots=True)
class Results:
    """Samples in the order of measurement, so that those of one round have the same index."""

    samples: dict[Figure, dict[str, list[float]]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Iterable["Results"]) -> "Results":
        """Return the results of several measurements as one; each figure belongs to one of them."""
        joined = cls()
        for part in parts:
            for figure, by_contender in part.samples.items():
                joined.samples.setdefault(figure, {}).update(by_contender)
            joined.problems |= part.problems
            joined.notes |= part.notes
        return joined

    def add(self, contender: str, taken: Mapping[Figure, float]) -> None:
        """Add one sample of each figure."""
        for figure, value in taken.items():
            self.samples.setdefault(figure, {}).setdefault(contender, []).append(value)

    def fail(self, contender: str, reason: str) -> None:
        """Record the reason why a contender could not be measured."""
        self.problems[contender] = reason

    def of(self, figure: Figure, contender: str) -> list[float]:
        """Return the samples of a figure.

        Raises:
            MissingError: The figure was not measured.
        """
        values = self.samples.get(figure, {}).get(contender)
        if not values:
            reason = self.problems.get(contender, "not part of this run")
            raise MissingError(f"no {figure.name} of {contender}: {reason}")
        return values

    def value(self, figure: Figure, contender: str) -> float:
        """Return the median of a figure's samples.

        Raises:
            MissingError: The figure was not measured.
        """
        return median(self.of(figure, contender))

    def ratio(self, figure: Figure, contender: str, other: str) -> float:
        """Return a contender's figure divided by that of ``other``: the median over the rounds that have both.

        Rounds on a slow machine slow down both, so their ratios stay right; a ratio of medians would be distorted.

        Raises:
            MissingError: One of the two was not measured.
        """
        pairs = zip(self.of(figure, contender), self.of(figure, other), strict=False)
        return median(value / reference for value, reference in pairs)

    def as_json(self) -> dict[str, Any]:
        """Return all results in the form of the JSON file."""
        figures = [
            {"figure": figure.name, "unit": figure.unit, "contender": contender, "median": summary.median}
            | {"quartiles": [summary.low, summary.high], "samples": values}
            for figure, by_contender in self.samples.items()
            for contender, values in by_contender.items()
            for summary in [Summary.of(values)]
        ]
        return {"figures": figures, "problems": self.problems, "notes": self.notes}
