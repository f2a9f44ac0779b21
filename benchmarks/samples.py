"""What has been measured: samples by figure and contender, and what they come to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Figure:
    """Something that is measured of every contender, in its unit."""

    name: str
    unit: str


class MissingError(LookupError):
    """A figure that a ratio needs was not measured; the text says whose, and why if that is known."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The middle of some samples, and the quartiles between which half of them lie."""

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
    """Samples in the order in which they were taken, so that those of one round have one index."""

    samples: dict[Figure, dict[str, list[float]]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, contender: str, taken: Mapping[Figure, float]) -> None:
        """Note one sample of each figure."""
        for figure, value in taken.items():
            self.samples.setdefault(figure, {}).setdefault(contender, []).append(value)

    def fail(self, contender: str, reason: str) -> None:
        """Note why a contender could not be measured."""
        self.problems[contender] = reason

    def of(self, figure: Figure, contender: str) -> list[float]:
        """The samples of a figure.

        Raises:
            MissingError: There are none.
        """
        values = self.samples.get(figure, {}).get(contender)
        if not values:
            reason = self.problems.get(contender, "not part of this run")
            raise MissingError(f"no {figure.name} of {contender}: {reason}")
        return values

    def value(self, figure: Figure, contender: str) -> float:
        """The median of a figure's samples.

        Raises:
            MissingError: There are none.
        """
        return median(self.of(figure, contender))

    def ratio(self, figure: Figure, contender: str, other: str) -> float:
        """How many times ``other``'s figure a contender's is: the median over the rounds that have both.

        A machine that slows down for some rounds slows down both, which a ratio of medians would not see.

        Raises:
            MissingError: One of them has not been measured.
        """
        pairs = zip(self.of(figure, contender), self.of(figure, other), strict=False)
        return median(mine / theirs for mine, theirs in pairs)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        figures = [
            {"figure": figure.name, "unit": figure.unit, "contender": contender, "median": summary.median}
            | {"quartiles": [summary.low, summary.high], "samples": values}
            for figure, by_contender in self.samples.items()
            for contender, values in by_contender.items()
            for summary in [Summary.of(values)]
        ]
        return {"figures": figures, "problems": self.problems, "notes": self.notes}
