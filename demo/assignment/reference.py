"""The reference solution: recursive descent, a method for each rank of operators."""

import re
from collections.abc import Callable

_TOKEN = re.compile(r" *([0-9]+|[-+*/()])")


def evaluate(text: str) -> int:
    """Compute an expression.

    Raises:
        ValueError: The text is no expression.
        ZeroDivisionError: It divides by zero.
    """
    return _Parser(_tokens(text)).whole()


def divide(left: int, right: int) -> int:
    """Divide, rounding toward zero."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _tokens(text: str) -> list[str]:
    tokens, position, end = [], 0, len(text.rstrip(" "))
    while position < end:
        found = _TOKEN.match(text, position)
        if not found:
            raise ValueError(f"not expected: {text[position:]!r}")
        tokens.append(found[1])
        position = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._left = tokens[::-1]  # the next one last

    def whole(self) -> int:
        value = self._sum()
        if self._left:
            raise ValueError(f"not expected: {self._left[-1]!r}")
        return value

    def _sum(self) -> int:
        return self._chain(self._product, {"+": int.__add__, "-": int.__sub__})

    def _product(self) -> int:
        return self._chain(self._operand, {"*": int.__mul__, "/": divide})

    def _chain(self, part: Callable[[], int], operators: dict[str, Callable[[int, int], int]]) -> int:
        value = part()
        while self._left and self._left[-1] in operators:
            operator = operators[self._left.pop()]
            value = operator(value, part())
        return value

    def _operand(self) -> int:
        if not self._left:
            raise ValueError("the expression ends too early")
        first = self._left.pop()
        if first == "-":
            return -self._operand()
        if first == "(":
            return self._group()
        if first.isdigit():
            return int(first)
        raise ValueError(f"not expected: {first!r}")

    def _group(self) -> int:
        value = self._sum()
        if not self._left or self._left.pop() != ")":
            raise ValueError("a parenthesis is not closed")
        return value
