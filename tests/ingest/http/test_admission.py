"""Limits on clients, apart from HTTP: addresses, rates, and amounts that are held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.ingest.http import admission
from broadway.ingest.http.admission import Budget, ClientLimits, Digests, Held, LimitError, Rates, network_of
from broadway.runtime.metrics import Limit
from broadway.settings.http import HttpSettings

PROXIES = "10.0.0.0/8, 2001:db8:1::/48"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:2:3:4:5:6:7", "2001:db8:2:3::/64"),
        ("2001:db8:2:3::1", "2001:db8:2:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_of_ipv6_count_by_their_network(address: str, counted: str) -> None:
    assert network_of(address) == counted


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),  # no proxy
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),  # the client wrote the first one itself
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, ", ""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", ["unknown, 10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ['"[2001:db8:7::1]:4711"'], "2001:db8:7::/64"),
        ("2001:db8:1::5", ["2001:db8:7::1"], "2001:db8:7::/64"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ],
)
def test_a_proxied_client_is_the_last_hop_that_is_no_proxy(peer: str, forwarded: list[str], client: str) -> None:
    assert ClientLimits.of(HttpSettings(), PROXIES).client_of(peer, forwarded) == client


@given(st.lists(st.text()))
def test_no_header_makes_a_client_of_a_proxy_fail(forwarded: list[str]) -> None:
    assert ClientLimits.of(HttpSettings(), PROXIES).client_of("10.0.0.1", forwarded)


def test_a_bucket_refills_with_time_and_holds_no_more_than_its_capacity() -> None:
    now = [0.0]
    rates = Rates(rate=2, capacity=4, clock=lambda: now[0])

    assert [rates.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert rates.take("b") == 0, "each key has its own"
    now[0] = 0.5
    assert (rates.take("a"), rates.take("a")) == (0, 0.5)
    now[0] = 1000
    assert [rates.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_the_number_of_remembered_addresses_and_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_KEYS", 3)
    rates, known = Rates(rate=1, capacity=1, clock=lambda: 0.0), Digests()
    for key in "abcd":
        rates.take(key)
        known.add(key)

    assert [bool(rates.wait(key)) for key in "abcd"] == [False, True, True, True]
    assert [key in known for key in "abcd"] == [False, True, True, True]


def test_an_address_has_a_part_of_an_amount_and_gets_it_back() -> None:
    budget = Budget(Limit.MEMORY, "many large requests", total=10, each=6)
    one, two, other, proxy = (Held(budget, address) for address in ("a", "a", "b", None))
    one.take(4)
    two.take(2)
    with pytest.raises(LimitError, match="from your address") as mine:
        two.take(1)
    one.take(2)
    other.take(4)
    with pytest.raises(LimitError) as all_clients:
        proxy.take(1)
    assert (mine.value.status, all_clients.value.status) == (429, 503)

    one.release()
    one.release()
    proxy.take(4)
    for each in (two, other, proxy):
        each.release()
    assert budget.used == 0


def test_of_clients_that_grow_together_only_as_many_are_refused_as_needed() -> None:
    budget = Budget(Limit.SPOOL, "many deliveries", total=10, each=10)
    growing = [Held(budget, "a") for _ in range(5)]
    for _ in range(5):
        for each in list(growing):
            try:
                each.take(1)
            except LimitError:
                growing.remove(each)

    assert [each.amount for each in growing] == [5, 5]


def test_a_handler_that_goes_on_after_its_answer_holds_nothing() -> None:
    budget = Budget(Limit.SPOOL, "many deliveries", total=10, each=10)
    held = Held(budget, "a")
    held.take(4)
    held.end()
    held.take(4)  # a body that still arrives, after the answer that the store is unavailable
    held.release()

    assert budget.used == 0
    Held(budget, "a").take(10)


def test_a_limit_per_address_is_at_most_the_limit_on_all() -> None:
    limits = ClientLimits.of(HttpSettings(connections=16), "", connections=9)
    for number in range(9):
        limits.connect(number, "192.0.2.7")
    with pytest.raises(LimitError):
        limits.connect(9, "192.0.2.7")


def test_wrong_tokens_do_not_keep_a_valid_one_of_the_same_address_away() -> None:
    limits = ClientLimits.of(HttpSettings(failures_per_minute=3), "")
    limits.note_valid("a-teacher's")
    for number in range(5):
        limits.note_failure("192.0.2.7", f"guess-{number}")

    limits.check("192.0.2.7", "a-teacher's")
    limits.check("192.0.2.7", "bws_" + "x" * 43)  # of a student: too long to be guessed, so it is looked up
    limits.check("192.0.2.7", None)
    limits.check("192.0.2.8", "another-guess")
    with pytest.raises(LimitError, match="too many wrong tokens from your address") as refusal:
        limits.check("192.0.2.7", "another-guess")
    assert int(refusal.value.headers["Retry-After"]) >= 1


def test_a_client_that_repeats_an_old_token_makes_few_failures() -> None:
    limits = ClientLimits.of(HttpSettings(failures_per_minute=5), "")
    for _ in range(15):
        limits.note_failure("192.0.2.7", "an-old-one", "cs101")
    limits.check("192.0.2.7", "a-teacher's")

    limits.note_failure("192.0.2.7", "an-old-one", "cs225")  # a guess in another course
    with pytest.raises(LimitError):
        limits.check("192.0.2.7", "a-teacher's")


def test_an_expired_token_of_a_student_is_no_guess() -> None:
    limits = ClientLimits.of(HttpSettings(failures_per_minute=1), "")
    for _ in range(5):
        limits.note_failure("192.0.2.7", "bws_" + "x" * 43)

    limits.check("192.0.2.7", "a-teacher's")
