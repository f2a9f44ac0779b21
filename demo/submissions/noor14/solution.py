from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Num:
    value: int

    def compute(self) -> int:
        return self.value


@dataclass(frozen=True)
class Neg:
    inner: Node

    def compute(self) -> int:
        return -self.inner.compute()


@dataclass(frozen=True)
class Bin:
    left: Node
    operator: str
    right: Node

    def compute(self) -> int:
        left, right = self.left.compute(), self.right.compute()
        match self.operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
        quotient, remainder = divmod(left, right)
        return quotient + (quotient < 0 and remainder != 0)


Node = Num | Neg | Bin


@dataclass
class Parser:
    tokens: list[str]
    at: int = 0

    @property
    def token(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def accept(self, *wanted: str) -> str:
        token = self.token
        if token in wanted and token:
            self.at += 1
            return token
        return ""

    def sum(self) -> Node:
        node = self.product()
        while operator := self.accept("+", "-"):
            node = Bin(node, operator, self.product())
        return node

    def product(self) -> Node:
        node = self.unary()
        while operator := self.accept("*", "/"):
            node = Bin(node, operator, self.unary())
        return node

    def unary(self) -> Node:
        if self.accept("-"):
            return Neg(self.unary())
        if self.accept("("):
            node = self.sum()
            if not self.accept(")"):
                raise ValueError("expected )")
            return node
        if not self.token.isdigit():
            raise ValueError(f"expected a number, got {self.token!r}")
        self.at += 1
        return Num(int(self.tokens[self.at - 1]))


def evaluate(text: str) -> int:
    parser = Parser(re.findall(r"[0-9]+|[^ 0-9]", text))
    tree = parser.sum()
    if parser.token:
        raise ValueError(f"unexpected {parser.token!r}")
    return tree.compute()
