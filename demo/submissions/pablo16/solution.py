"""Parsers are functions from (text, position) to (value, position) or None."""

import re


def token(pattern):
    compiled = re.compile(r"\s*(" + pattern + r")")

    def parse(text, at):
        found = compiled.match(text, at)
        return found and (found[1], found.end())

    return parse


def seq(*parsers):
    def parse(text, at):
        values = []
        for parser in parsers:
            result = parser(text, at)
            if result is None:
                return None
            value, at = result
            values.append(value)
        return values, at

    return parse


def either(*parsers):
    def parse(text, at):
        return next((result for parser in parsers if (result := parser(text, at)) is not None), None)

    return parse


def convert(parser, function):
    def parse(text, at):
        result = parser(text, at)
        return result and (function(result[0]), result[1])

    return parse


def chain(operand, operators, functions):
    link = seq(operators, operand)

    def parse(text, at):
        result = operand(text, at)
        while result:
            value, at = result
            following = link(text, at)
            if following is None:
                return result
            (operator, right), at = following
            result = functions[operator](value, right), at
        return None

    return parse


def trunc(a, b):
    return -(-a // b) if (a < 0) != (b < 0) else a // b


def unary(text, at):
    return either(
        convert(token(r"\d+"), int),
        convert(seq(token("-"), unary), lambda values: -values[1]),
        convert(seq(token(r"\("), sums, token(r"\)")), lambda values: values[1]),
    )(text, at)


products = chain(unary, token(r"[*/]"), {"*": lambda a, b: a * b, "/": trunc})
sums = chain(products, token(r"[-+]"), {"+": lambda a, b: a + b, "-": lambda a, b: a - b})


def evaluate(text):
    result = sums(text, 0)
    if result is None or text[result[1] :].strip():
        raise ValueError("not an expression")
    return result[0]
