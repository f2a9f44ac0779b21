import ast
import operator


def div(a, b):
    return a // b if a % b == 0 or (a > 0) == (b > 0) else a // b + 1


OPS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: div}


def visit(node):
    if isinstance(node, ast.Expression):
        return visit(node.body)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -visit(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in OPS:
        return OPS[type(node.op)](visit(node.left), visit(node.right))
    raise ValueError("not allowed here: " + ast.dump(node))


def evaluate(text):
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(str(error))
    return visit(tree)
