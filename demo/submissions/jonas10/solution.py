class Calculator:
    def __init__(self, text):
        self.tokens = self.split(text)

    def split(self, text):
        for char in "+-*/()":
            text = text.replace(char, " " + char + " ")
        return text.split()

    def next(self):
        return self.tokens[0] if self.tokens else None

    def sum(self):
        value = self.product()
        while self.next() in ("+", "-"):
            if self.tokens.pop(0) == "+":
                value += self.product()
            else:
                value -= self.product()
        return value

    def product(self):
        value = self.atom()
        while self.next() in ("*", "/"):
            if self.tokens.pop(0) == "*":
                value *= self.atom()
            else:
                divisor = self.atom()
                value = abs(value) // abs(divisor) * (1 if value * divisor > 0 else -1)
        return value

    def atom(self):
        token = self.next()
        if token is None:
            raise ValueError("operand missing")
        self.tokens.pop(0)
        if token == "-":
            return -self.atom()
        if token == "(":
            value = self.sum()
            while self.next() != ")":
                pass
            self.tokens.pop(0)
            return value
        return int(token)


def evaluate(text):
    calculator = Calculator(text)
    value = calculator.sum()
    if calculator.tokens:
        raise ValueError("left over")
    return value
