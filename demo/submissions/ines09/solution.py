import re


def evaluate(text: str) -> int:
    if re.search(r"[^\d\s()+*/-]", text):
        raise ValueError
    tokens = re.findall(r"\d+|[^\s\d]", text)
    value = add(tokens)
    if tokens:
        raise ValueError(tokens)
    return value


def add(tokens):
    value = mul(tokens)
    while tokens and tokens[0] in "+-":
        if tokens.pop(0) == "+":
            value += mul(tokens)
        else:
            value -= mul(tokens)
    return value


def mul(tokens):
    value = one(tokens)
    while tokens and tokens[0] in "*/":
        if tokens.pop(0) == "*":
            value *= one(tokens)
        else:
            value //= one(tokens)
    return value


def one(tokens):
    if not tokens:
        raise ValueError("nothing there")
    token = tokens.pop(0)
    if token == "-":
        return -one(tokens)
    if token == "(":
        value = add(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("( not closed")
        return value
    return int(token)
