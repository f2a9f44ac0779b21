import re


def evaluate(text):
    tokens = re.findall(r"\d+|[-+*/()]", text)
    if not tokens:
        raise ValueError("empty")
    value, rest = chain(tokens)
    if rest:
        raise ValueError("left over")
    return value


def chain(tokens):
    value, tokens = operand(tokens)
    while tokens and tokens[0] in "+-*/":
        op = tokens[0]
        right, tokens = operand(tokens[1:])
        if op == "+":
            value += right
        elif op == "-":
            value -= right
        elif op == "*":
            value *= right
        else:
            value = int(value / right)
    return value, tokens


def operand(tokens):
    if not tokens:
        raise ValueError("too short")
    if tokens[0] == "-":
        value, tokens = operand(tokens[1:])
        return -value, tokens
    if tokens[0] == "(":
        value, tokens = chain(tokens[1:])
        if not tokens or tokens[0] != ")":
            raise ValueError("not closed")
        return value, tokens[1:]
    if not tokens[0].isdigit():
        raise ValueError("no number")
    return int(tokens[0]), tokens[1:]
