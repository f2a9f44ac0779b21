import ast


def div(a, b):
    return abs(a) // abs(b) * (1 if a * b >= 0 else -1)


def value(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        return -value(node.operand)
    left, right = value(node.left), value(node.right)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    return div(left, right)


def evaluate(text):
    try:
        tree = ast.parse(text.strip(), mode="eval")
        print(value(tree.body))
    except (SyntaxError, AttributeError):
        raise ValueError("not an expression")
