import re
from typing import Iterator

BINDING = {"+": 10, "-": 10, "*": 20, "/": 20}
UNARY = 30


def tokenize(text: str) -> Iterator[str]:
    for number, other in re.findall(r"(\d+)|(\S)", text):
        yield number or other
    yield "end"


class Tokens:
    def __init__(self, text: str) -> None:
        self._tokens = tokenize(text)
        self.current = next(self._tokens)

    def advance(self) -> str:
        token = self.current
        self.current = next(self._tokens, "end")
        return token


def truncate(a: int, b: int) -> int:
    sign = 1 if a * b >= 0 else -1
    return sign * (abs(a) // abs(b))


def climb(tokens: Tokens, minimum: int) -> int:
    left = prefix(tokens)
    while BINDING.get(tokens.current, 0) > minimum:
        operator = tokens.advance()
        right = climb(tokens, BINDING[operator])
        if operator == "+":
            left = left + right
        elif operator == "-":
            left = left - right
        elif operator == "*":
            left = left * right
        else:
            left = truncate(left, right)
    return left


def prefix(tokens: Tokens) -> int:
    token = tokens.advance()
    if token.isdigit():
        return int(token)
    if token == "-":
        return -climb(tokens, UNARY)
    if token == "(":
        value = climb(tokens, 0)
        if tokens.advance() != ")":
            raise ValueError("parenthesis not closed")
        return value
    raise ValueError(f"unexpected {token}")


def evaluate(text: str) -> int:
    tokens = Tokens(text)
    value = climb(tokens, 0)
    if tokens.current != "end":
        raise ValueError(f"unexpected {tokens.current}")
    return value
