"""The reference solution: recursive descent, with a method for each precedence of operators."""

import re
from collections.abc import Callable

_TOKEN = re.compile(r" *([0-9]+|[-+*/()])")


def evaluate(text: str) -> int:
    """Compute an expression.

    Raises:
        ValueError: The text is not a valid expression.
        ZeroDivisionError: The expression divides by zero.
    """
    return _Parser(_tokens(text)).expression()


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
        self._tokens = tokens[::-1]  # reversed: the next token is the last one

    def expression(self) -> int:
        value = self._sum()
        if self._tokens:
            raise ValueError(f"not expected: {self._tokens[-1]!r}")
        return value

    def _sum(self) -> int:
        return self._chain(self._product, {"+": int.__add__, "-": int.__sub__})

    def _product(self) -> int:
        return self._chain(self._operand, {"*": int.__mul__, "/": divide})

    def _chain(self, part: Callable[[], int], operators: dict[str, Callable[[int, int], int]]) -> int:
        value = part()
        while self._tokens and self._tokens[-1] in operators:
            operator = operators[self._tokens.pop()]
            value = operator(value, part())
        return value

    def _operand(self) -> int:
        if not self._tokens:
            raise ValueError("the expression ends too early")
        first = self._tokens.pop()
        if first == "-":
            return -self._operand()
        if first == "(":
            return self._group()
        if first.isdigit():
            return int(first)
        raise ValueError(f"not expected: {first!r}")

    def _group(self) -> int:
        value = self._sum()
        if not self._tokens or self._tokens.pop() != ")":
            raise ValueError("a parenthesis is not closed")
        return value
