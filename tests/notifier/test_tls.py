"""Callbacks over TLS: the connection goes to the checked address, and the certificate must be that of the name."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from callback_world import World
from receivers import Receiver

from broadway.domain.callback_delivery import CallbackState
from broadway.notifier.notify import Notifier
from broadway.runtime.tls import trust

NAME = "receiver.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    file: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return trust(file)


@pytest.fixture
async def receiver(authority: trustme.CA) -> AsyncIterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    async with Receiver.open(tls=context) as opened:
        yield opened


def trusting(notifier: Notifier, tls: ssl.SSLContext) -> Notifier:
    notifier.turns = replace(notifier.turns, attempts=replace(notifier.turns.attempts, tls=tls))
    return notifier


@pytest.mark.parametrize(("host", "is_right"), [(NAME, True), ("other.example", False), ("127.0.0.1", False)])
async def test_the_certificate_must_be_of_the_endpoints_name(
    world: World, receiver: Receiver, trusted: ssl.SSLContext, host: str, is_right: bool
) -> None:
    endpoint = await world.endpoint(receiver.port, url=f"https://{host}:{receiver.port}/")
    await world.emit()
    await trusting(world.notifier(receiver.port), trusted).step()
    delivery = await world.delivery(endpoint)
    assert len(receiver.requests) == is_right
    assert (delivery.state is CallbackState.DELIVERED) is is_right
    if not is_right:
        assert "certificate verify failed" in delivery.answers[0].error


async def test_a_certificate_of_an_unknown_authority_is_refused(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port, url=f"https://{NAME}:{receiver.port}/")
    await world.emit()
    await world.notifier(receiver.port).step()
    assert receiver.requests == []
    assert "certificate verify failed" in (await world.delivery(endpoint)).answers[0].error
