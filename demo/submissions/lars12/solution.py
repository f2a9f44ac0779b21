from enum import Enum


class Op(Enum):
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    NEG = "~"


def to_rpn(text):
    """Yield numbers and operators in the order in which a stack machine wants them."""
    stack, at, want_operand = [], 0, True
    while at < len(text):
        char = text[at]
        at += 1
        if char == " ":
            continue
        if char.isdigit():
            if not want_operand:
                raise ValueError("two numbers in a row")
            end = at
            while end < len(text) and text[end].isdigit():
                end += 1
            yield int(text[at - 1 : end])
            at, want_operand = end, False
        elif char == "(" and want_operand:
            stack.append(char)
        elif char == "-" and want_operand:
            stack.append(Op.NEG)
        elif char == ")" and not want_operand:
            while stack and stack[-1] != "(":
                yield stack.pop()
            if not stack:
                raise ValueError("unbalanced )")
            stack.pop()
        elif char in "+-*/" and not want_operand:
            op = Op(char)
            while stack and stack[-1] != "(" and binds(stack[-1]) >= binds(op):
                yield stack.pop()
            stack.append(op)
            want_operand = True
        else:
            raise ValueError(f"unexpected {char!r}")
    if want_operand or "(" in stack:
        raise ValueError("unexpected end")
    yield from reversed(stack)


def binds(op):
    return {Op.NEG: 3, Op.MUL: 2, Op.DIV: 2}.get(op, 1)


def evaluate(text):
    stack = []
    for item in list(to_rpn(text)):
        if isinstance(item, int):
            stack.append(item)
        elif item is Op.NEG:
            stack.append(-stack.pop())
        else:
            b = stack.pop()
            a = stack.pop()
            stack.append(binary(item, a, b))
    return stack[0]


def binary(op, a, b):
    if op is Op.ADD:
        return a + b
    if op is Op.SUB:
        return a - b
    if op is Op.MUL:
        return a * b
    return a // b if a * b >= 0 else -(-a // b)
