"""Secrets that no header can carry, and texts that are no addresses, are refused without a part of them."""

import pytest

from broadway.domain.header_text import MAX_SECRET, header_problem, text_problem

SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (f"{SECRET}\r", "has a carriage return (CR) at its end, which no header can carry; has the file Windows line"),
        (f"{SECRET}\r\n", "has a carriage return (CR) at its end"),
        (f"{SECRET}\n", "has a newline at its end"),
        (f" {SECRET}", "has a blank at its beginning"),
        (f"{SECRET} {SECRET}", "has a blank at position 10"),
        (f"{SECRET}\t", "has a tab at its end"),
        (f"{SECRET}\0", "has NUL at its end"),
        (f"{SECRET}\x1b", "has a control character at its end"),
        (f"{SECRET}\x85", "has a control character at its end"),
        (f"{SECRET}\xa0", "has a blank that is not ASCII at its end"),
        (f"{SECRET}\xe9", "has a character beyond ASCII at its end"),
        (f"\u65e5{SECRET}", "has a character beyond ASCII at its beginning"),
        (f"{SECRET}\u200b", "has a character beyond ASCII at its end"),
        ("", "is empty"),
        ("x" * (MAX_SECRET + 1), f"has {MAX_SECRET + 1} characters"),
    ],
)
def test_a_token_that_no_header_can_carry_is_refused(token: str, said: str) -> None:
    problem = header_problem(token)

    assert problem is not None
    assert problem.startswith(said)
    assert SECRET not in problem


@pytest.mark.parametrize("token", ["x", "".join(map(chr, range(0x21, 0x7F))), "x" * MAX_SECRET])
def test_visible_ascii_is_a_token(token: str) -> None:
    assert header_problem(token) is None


@pytest.mark.parametrize("address", ["http://h\r", "http://h h", "http://h\u2028", "http://\u200bh", " http://h"])
def test_an_address_has_no_blanks(address: str) -> None:
    assert text_problem(address)
    assert text_problem("http://user:p%20w@host:1/?a=b") is None
