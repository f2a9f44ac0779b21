import re


def evaluate(text):
    print("evaluate", repr(text))
    tokens = re.findall(r"\d+|\S", text)
    print("  tokens:", tokens)
    value = summe(tokens)
    if tokens:
        print("  left over:", tokens)
        raise ValueError("left over: " + " ".join(tokens))
    print("  result:", value)
    return value


def summe(tokens):
    value = produkt(tokens)
    while tokens and tokens[0] in "+-":
        op = tokens.pop(0)
        right = produkt(tokens)
        print("   ", value, op, right)
        value = value + right if op == "+" else value - right
    return value


def produkt(tokens):
    value = faktor(tokens)
    while tokens and tokens[0] in "*/":
        op = tokens.pop(0)
        right = faktor(tokens)
        print("   ", value, op, right)
        if op == "*":
            value *= right
        else:
            negative = (value < 0) != (right < 0)
            value = abs(value) // abs(right)
            if negative:
                value = -value
    return value


def faktor(tokens):
    if not tokens:
        raise ValueError("the end came too early")
    token = tokens.pop(0)
    if token == "-":
        return -faktor(tokens)
    if token == "(":
        value = summe(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("a ) is missing")
        return value
    if not token.isdigit():
        raise ValueError("not a number: " + token)
    return int(token)
