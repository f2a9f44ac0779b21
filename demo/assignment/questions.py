"""The questions of the exercise: drawn from a seed, and solved with the reference.

As the first stage it writes the questions without their answers, for the submission.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import reference

QUESTIONS = Path("/job/questions.json")

Case = dict[str, Any]
PER_TOPIC = 2

_UNCLOSED = "({a} * {b}"
_MALFORMED = ("", "{a} +", "{a} {b}", "{a} + * {b}", "{a})", "()", "{a} $ {b}", "{a} - ({b} / )")


class Drawing:
    """Random expressions, of the kinds that calculators often get wrong."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same seed must give the same tests
        self._malformed = [*self._random.sample(_MALFORMED, len(_MALFORMED)), _UNCLOSED]

    def number(self, low: int = 1) -> int:
        return self._random.randint(low, 99)

    def precedence(self) -> str:
        return f"{self.number()} + {self.number(2)} * {self.number(2)} - {self.number()}"

    def grouping_from_the_left(self) -> str:
        return f"{self.number(50)} - {self.number()} - {self.number()} + {self.number()}"

    def division_from_the_left(self) -> str:
        return f"{self.number(40) * 60} / {self.number(2)} / {self._random.randint(2, 5)} * {self.number(2)}"

    def parentheses(self) -> str:
        return f"({self.number()} + {self.number()}) * (({self.number()} - {self.number()}))"

    def minus_in_front(self) -> str:
        sign = self._random.choice(("-", "--", "-(-", "- "))
        return f"{self.number()} * {sign}{self.number()}{')' * sign.count('(')}"

    def rounding_toward_zero(self) -> str:
        divisor = self.number(2)
        return f"({self.number()} - {divisor * self.number() + 100}) * {divisor} / {divisor + 1} - 1 / {divisor}"

    def spaces(self) -> str:
        pieces = [str(self.number()), "*", "(", str(self.number()), "+", str(self.number()), ")"]
        return "".join(piece + " " * self._random.randint(0, 3) for piece in pieces)

    def malformed(self) -> str:
        return self._malformed.pop().format(a=self.number(), b=self.number())

    def division_by_zero(self) -> str:
        same = self.number()
        return f"{self.number()} / ({same} - {same})"

    def everything(self) -> str:
        while "error" in solution(expression := self._nested(4)):
            pass
        return expression

    def _nested(self, depth: int) -> str:
        if depth == 0:
            return self._random.choice(("", "", "", "-")) + str(self.number())
        left, right = self._nested(depth - 1), self._nested(depth - 1)
        expression = f"{left} {self._random.choice('+-*/')} {right}"
        return self._random.choice(("{}", "({})", "-({})")).format(expression)

    def topics(self) -> list[Callable[[], str]]:
        return [
            *(self.precedence, self.grouping_from_the_left, self.division_from_the_left, self.parentheses),
            *(self.minus_in_front, self.rounding_toward_zero, self.spaces, self.malformed),
            *(self.division_by_zero, self.everything),
        ]


def cases(seed: str) -> Iterator[Case]:
    """Yield the cases of a seed: ``topic``, ``expression``, and either ``value`` or ``error``, an exception's name."""
    for topic in Drawing(seed).topics():
        different: set[str] = set()
        while len(different) < PER_TOPIC:
            expression = topic()
            if expression not in different:
                different.add(expression)
                yield {"topic": topic.__name__.replace("_", " "), "expression": expression, **solution(expression)}


def solution(expression: str) -> Case:
    """Return the result of the reference: ``value`` or ``error``."""
    try:
        return {"value": reference.evaluate(expression)}
    except (ValueError, ZeroDivisionError) as error:
        return {"error": type(error).__name__}


def main() -> None:
    drawn = [case["expression"] for case in cases(os.environ["SEED"])]
    QUESTIONS.write_text(json.dumps(drawn))
    print(f"{len(drawn)} questions drawn")


if __name__ == "__main__":
    main()
