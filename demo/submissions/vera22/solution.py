import re

RANKS = [{"*", "/"}, {"+", "-"}]


def evaluate(text):
    if re.search(r"\d\s+\d|[^-+*/()\d\s]", text):
        raise ValueError("cannot read this")
    return reduce(nest(re.findall(r"\d+|\S", text)))


def nest(tokens):
    """Lists for parentheses."""
    stack = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            inner = stack.pop()
            if not stack:
                raise ValueError("too many )")
            stack[-1].append(inner)
        else:
            stack[-1].append(int(token) if token.isdigit() else token)
    if len(stack) > 1:
        raise ValueError("too few )")
    return stack[0]


def reduce(items):
    items = signs([reduce(item) if isinstance(item, list) else item for item in items])
    if len(items) % 2 == 0:
        raise ValueError("operand missing")
    for rank in RANKS:
        at = 1
        while at < len(items):
            left, operator, right = items[at - 1 : at + 2]
            if operator in rank:
                items[at - 1 : at + 2] = [calculate(left, operator, right)]
            else:
                at += 2
    return items[0]


def signs(items):
    """Operands and operators in turn, with the signs in front taken into the operands."""
    result, minus = [], 0
    for item in items:
        operand_wanted = len(result) % 2 == 0
        if operand_wanted and item == "-":
            minus += 1
        elif operand_wanted and isinstance(item, int):
            result.append(-item if minus % 2 else item)
            minus = 0
        elif not operand_wanted and isinstance(item, str):
            result.append(item)
        else:
            raise ValueError(f"unexpected {item}")
    if minus:
        raise ValueError("operand missing")
    return result


def calculate(left, operator, right):
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return int(abs(left) // abs(right)) * (1 if (left >= 0) == (right >= 0) else -1)
