"""Marks for tests of graders behind the gateway, whose fixture ``address`` takes a protocol.

Both protocols share the code of most cases, which take one of them; the other one is in the long session.
"""

import pytest

by_http = pytest.mark.parametrize("address", ["http", pytest.param("ws", marks=pytest.mark.long)], indirect=True)
by_ws = pytest.mark.parametrize("address", ["ws", pytest.param("http", marks=pytest.mark.long)], indirect=True)
