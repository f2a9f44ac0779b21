"""Exercise 3, with a class that walks over the text."""


class Reader:
    def __init__(self, text):
        self.text = text
        self.pos = 0

    def peek(self):
        while self.pos < len(self.text) and self.text[self.pos] == " ":
            self.pos += 1
        return self.text[self.pos] if self.pos < len(self.text) else ""

    def take(self):
        char = self.peek()
        self.pos += 1
        return char

    def expression(self):
        value = self.term()
        while self.peek() in ("+", "-"):
            if self.take() == "+":
                value += self.term()
            else:
                value -= self.term()
        return value

    def term(self):
        value = self.factor()
        while self.peek() in ("*", "/"):
            if self.take() == "*":
                value *= self.factor()
            else:
                value = divide(value, self.factor())
        return value

    def factor(self):
        char = self.take()
        if char == "-":
            return -self.factor()
        if char == "(":
            value = self.expression()
            if self.take() != ")":
                raise ValueError("missing )")
            return value
        if not char.isdigit():
            raise ValueError("number expected, got " + repr(char))
        digits = char
        while self.pos < len(self.text) and self.text[self.pos].isdigit():
            digits += self.text[self.pos]
            self.pos += 1
        return int(digits)


def divide(a, b):
    q = abs(a) // abs(b)
    return q if (a >= 0) == (b > 0) else -q


def evaluate(text):
    reader = Reader(text)
    value = reader.expression()
    if reader.peek():
        raise ValueError("something is left over")
    return value
