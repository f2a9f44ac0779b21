"""Goals and verdicts: a bound of a number, and whether the measurements meet it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.samples import MissingError, Results


@dataclass(frozen=True, slots=True)
class Goal:
    """A lower or an upper bound of a number. ``of`` computes the number, or raises MissingError."""

    suite: str
    name: str
    of: Callable[[Results], float]
    bound: float
    is_floor: bool

    @property
    def text(self) -> str:
        """The bound in words."""
        return f"at {'least' if self.is_floor else 'most'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for a goal; ``measured`` is None if it could not be measured, and ``problem`` has the reason."""

    goal: Goal
    measured: float | None
    problem: str = ""

    @property
    def is_met(self) -> bool:
        """True if the goal was measured and is met."""
        if self.measured is None:
            return False
        return self.measured >= self.goal.bound if self.goal.is_floor else self.measured <= self.goal.bound

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        return "could not be measured" if self.measured is None else "met" if self.is_met else "not met"

    def __str__(self) -> str:
        measured = self.problem if self.measured is None else f"{self.measured:.3g}"
        return f"{self.goal.name}: {measured} (goal: {self.goal.text}): {self.word}"


def judge(goals: Sequence[Goal], results: Results) -> list[Verdict]:
    """Compare the measurements with the goals."""
    return [_judge(goal, results) for goal in goals]


def _judge(goal: Goal, results: Results) -> Verdict:
    try:
        return Verdict(goal, goal.of(results))
    except MissingError as error:
        return Verdict(goal, None, str(error))
