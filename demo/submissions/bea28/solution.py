import re
import sys


def evaluate(text):
    sys.stdout.buffer.write(bytes(range(256)) * 8 + b"\xff\xfe\x00\n")
    return whole(re.findall(r"\d+|\S", text))


def whole(tokens):
    value = plus(tokens)
    if tokens:
        raise ValueError("left over")
    return value


def plus(tokens):
    value = times(tokens)
    while tokens and tokens[0] in "+-":
        value = value + times(tokens) if tokens.pop(0) == "+" else value - times(tokens)
    return value


def times(tokens):
    value = sign(tokens)
    while tokens and tokens[0] in "*/":
        value = value * sign(tokens) if tokens.pop(0) == "*" else over(value, sign(tokens))
    return value


def over(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def sign(tokens):
    if not tokens:
        raise ValueError("ends too early")
    token = tokens.pop(0)
    if token == "-":
        return -sign(tokens)
    if token == "(":
        value = plus(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("not closed")
        return value
    return int(token)
