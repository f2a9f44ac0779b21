"""Following a resource, with a clock of its own."""

import math

import pytest

from broadway.clients.changes import LONGEST_PAUSE, OUTAGE, changes
from broadway.session import ClientError

GONE = ClientError("no server")
REFUSED = ClientError("invalid token", status=401)


class Followed:
    """A resource with a list of states, of which the last one stays; None stands for no change."""

    def __init__(self, *states: int | ClientError | None, within: float = math.inf) -> None:
        self._left = list(states)
        self._within = within
        self.now = 0.0
        self.told: list[str] = []

    def result(self) -> list[int]:
        return list(
            changes(
                self._look,
                lambda state: state == 9,
                within=self._within,
                pause=self._pause,
                waiting=lambda _, reason: self.told.append(reason),
                clock=lambda: self.now,
            )
        )

    def _look(self) -> int | None:
        state = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if isinstance(state, ClientError):
            raise state
        return state

    def _pause(self, seconds: float) -> None:
        assert 0 < seconds <= LONGEST_PAUSE
        self.now += seconds


def test_each_change_is_yielded_until_the_end() -> None:
    assert Followed(1, None, 2, None, None, 9).result() == [1, 2, 9]


def test_the_time_ends_where_it_was_given() -> None:
    followed = Followed(1, within=10)

    assert set(followed.result()) == {1}
    assert followed.now == 10


def test_a_server_that_is_away_is_reported_once() -> None:
    followed = Followed(1, GONE, GONE, None, GONE, 9)

    assert followed.result() == [1, 9]
    assert followed.told == ["no server", "no server"]


def test_a_server_that_stays_away_ends_it() -> None:
    followed = Followed(1, GONE)

    with pytest.raises(ClientError, match="no server"):
        followed.result()
    assert OUTAGE < followed.now <= OUTAGE + 2 * LONGEST_PAUSE


@pytest.mark.parametrize("states", [(GONE,), (1, REFUSED)], ids=["at first", "a refusal"])
def test_other_errors_end_it_at_once(states: tuple[int | ClientError, ...]) -> None:
    followed = Followed(*states)

    with pytest.raises(ClientError):
        followed.result()
    assert followed.told == []
