"""Long lists in parts."""

import pytest

from broadway.domain.parts import in_parts


@pytest.mark.parametrize(
    ("count", "parts"), [(0, []), (1, ["0"]), (3, ["012"]), (4, ["012", "3"]), (7, ["012", "345", "6"])]
)
def test_each_item_is_in_one_part_in_order(count: int, parts: list[str]) -> None:
    assert list(in_parts("0123456"[:count], 3)) == parts
