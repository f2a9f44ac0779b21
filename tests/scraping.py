"""Read metrics as Prometheus does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Scrape:
    """The metrics in one answer of an endpoint."""

    values: Mapping[Series, float]

    @classmethod
    def of(cls, text: str) -> "Scrape":
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples})

    def __sub__(self, earlier: "Scrape") -> "Scrape":
        return Scrape({series: value - earlier.values.get(series, 0) for series, value in self.values.items()})

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series with this name and these labels."""
        return sum(self._matching(name, labels).values())

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return sums by the values of a label, without zeros."""
        sums: dict[str, float] = {}
        for series, value in self._matching(name, labels).items():
            key = dict(series[1])[label]
            sums[key] = sums.get(key, 0) + value
        return {key: value for key, value in sums.items() if value}

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {dict(series[1])[label] for series in self._matching(name, {})}

    def ours(self) -> set[Series]:
        """Return all series of Broadway's own metrics."""
        return {series for series in self.values if series[0].startswith("broadway_")}

    def _matching(self, name: str, labels: Mapping[str, str]) -> dict[Series, float]:
        return {s: value for s, value in self.values.items() if s[0] == name and labels.items() <= dict(s[1]).items()}


Reading = Callable[[], Scrape]
