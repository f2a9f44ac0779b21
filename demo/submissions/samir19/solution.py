import ctypes


class Node(ctypes.Structure):
    pass


Node._fields_ = [("value", ctypes.c_long), ("left", ctypes.POINTER(Node)), ("right", ctypes.POINTER(Node))]


def parse(text):
    root = Node()
    root.value = ord(text[0]) if text else 0
    return root


def evaluate(text):
    root = parse(text)
    left = ctypes.cast(root.left, ctypes.c_void_p).value or 0
    return ctypes.c_long.from_address(left).value
