import itertools
import re


def evaluate(text: str) -> int:
    if not set(text) <= set("0123456789+-*/() "):
        raise ValueError("invalid character")
    stream = itertools.chain(re.findall(r"\d+|[^ \d]", text), itertools.repeat(""))
    ahead = next(stream)

    def advance() -> str:
        nonlocal ahead
        token, ahead = ahead, next(stream)
        return token

    def operand() -> int:
        token = advance()
        if token == "-":
            return -operand()
        if token == "(":
            inner = addition()
            if advance() != ")":
                raise ValueError("')' expected")
            return inner
        try:
            return int(token)
        except ValueError:
            raise ValueError(f"operand expected instead of {token!r}") from None

    def multiplication() -> int:
        result = operand()
        while ahead in {"*", "/"}:
            if advance() == "*":
                result *= operand()
            else:
                divisor = operand()
                result = (abs(result) // abs(divisor)) * ((result > 0) - (result < 0)) * (1 if divisor > 0 else -1)
        return result

    def addition() -> int:
        result = multiplication()
        while ahead in {"+", "-"}:
            result += multiplication() if advance() == "+" else -multiplication()
        return result

    value = addition()
    if ahead:
        raise ValueError(f"unexpected {ahead!r}")
    return value
