import re
from functools import partial


def evaluate(text):
    if re.search(r"[^-+*/()\d ]", text):
        raise ValueError("unknown character")
    value, rest = total(tuple(re.findall(r"\d+|[-+*/()]", text)))
    if rest:
        raise ValueError(f"unexpected {rest[0]}")
    return value


def level(part, operators, tokens):
    value, rest = part(tokens)
    while rest and rest[0] in operators:
        right, after = part(rest[1:])
        value, rest = operators[rest[0]](value, right), after
    return value, rest


def atom(tokens):
    match tokens:
        case ("-", *rest):
            value, rest = atom(tuple(rest))
            return -value, rest
        case ("(", *rest):
            value, rest = total(tuple(rest))
            if rest[:1] != (")",):
                raise ValueError("( without )")
            return value, rest[1:]
        case (number, *rest) if number.isdigit():
            return int(number), tuple(rest)
    raise ValueError("operand missing")


def quotient(a, b):
    return (a - (abs(a) % abs(b)) * (1 if a > 0 else -1)) // b


product = partial(level, atom, {"*": lambda a, b: a * b, "/": quotient})
total = partial(level, product, {"+": lambda a, b: a + b, "-": lambda a, b: a - b})
