"""The registry of an image: whose addresses are refused, and what a course learns of an error."""

import socket

import pytest
from docker.errors import APIError, DockerException, ImageNotFound

from broadway.grader.docker.registries import UNREACHED, demand_elsewhere, host_of, neutral
from broadway.grader.ports import ContainerError


def own_address() -> str:
    """Return an address of this host other than loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("debian", None),
        ("debian:12", None),
        ("library/debian:12", None),
        ("course/mp1@sha256:abc", None),
        ("localhost/mp1", "localhost"),
        ("localhost:5000/mp1", "localhost"),
        ("registry.example/cs241/mp1:3", "registry.example"),
        ("registry.example:443/mp1", "registry.example"),
        ("10.0.0.1/mp1", "10.0.0.1"),
        ("[::1]:5000/mp1", "::1"),
        ("Registry/mp1", "Registry"),
    ],
)
def test_the_registry_is_found_as_engines_find_it(image: str, host: str | None) -> None:
    assert host_of(image) == host


@pytest.mark.parametrize(
    "registry",
    [
        *("localhost", "localhost:1", "127.0.0.1:22", "127.1.2.3", "0.0.0.0", "[::1]:22", "[::ffff:127.0.0.1]:22"),
        *("169.254.169.254", "[fe80::1]", "2130706433:22", "0x7f.1:22", "127.1:22", own_address()),
    ],
)
async def test_a_registry_at_an_address_of_the_host_is_refused(registry: str) -> None:
    if host_of(f"{registry}/x") is None:
        pytest.fail("an engine would ask its default registry")
    with pytest.raises(ContainerError, match=r"the grader's own host.*--allow-local-registries") as raised:
        await demand_elsewhere(f"{registry}/x:1")
    assert not raised.value.retryable


@pytest.mark.parametrize("image", ["debian:12", "192.0.2.1:5000/x", "no-such-host.invalid/x", "[2001:db8::1]/x"])
async def test_a_registry_elsewhere_is_left_to_the_engine(image: str) -> None:
    await demand_elsewhere(image)


# Errors of engines for addresses at which something listens, or nothing does.
CONNECTIONS = [
    'Get "https://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    'Get "https://127.0.0.1:22/v2/": http: server gave HTTP response to HTTPS client',
    'Get "https://10.0.0.1:25/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
    'Get "http://127.0.0.1:22/v2/": net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0"',
    'Head "https://10.0.0.1:5432/v2/x/manifests/1": EOF',
    'Get "https://registry.example/v2/": x509: certificate signed by unknown authority',
    'Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host',
    "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value",
    "received unexpected HTTP status: 500 Internal Server Error",
    'Get "https://registry.example/v2/": Get "http://10.0.0.1:22/token?service=x": EOF',
]


@pytest.mark.parametrize("text", CONNECTIONS)
def test_errors_of_connections_are_one_sentence(text: str) -> None:
    assert str(neutral(DockerException(text))) == UNREACHED


def test_the_step_at_which_a_connection_failed_is_named() -> None:
    text = 'error pulling image configuration: Get "http://10.0.0.1:22/x": EOF'
    assert str(neutral(DockerException(text))) == f"error pulling image configuration: {UNREACHED}"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("manifest for x:1 not found: manifest unknown", "manifest for x:1 not found: manifest unknown"),
        ('Head "https://registry.example/v2/x/manifests/1": denied: requested access', "denied: requested access"),
        ("no matching manifest for linux/arm64 in the manifest list entries",) * 2,
        ("write /var/lib/docker/tmp/x: no space left on device",) * 2,
    ],
)
def test_a_registrys_own_answers_are_kept(text: str, answer: str) -> None:
    assert str(neutral(DockerException(text))) == answer


def test_errors_that_are_no_registrys_are_kept() -> None:
    errors: list[Exception] = [ImageNotFound("no such image"), TimeoutError(), APIError("manifest unknown")]
    assert [neutral(error) for error in errors] == errors
