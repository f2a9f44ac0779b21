"""What a course learns from an image's registry: whether it has the image, not what listens where near the grader."""

import asyncio
import ipaddress
import re
import socket

from docker.errors import DockerException, ImageNotFound

from broadway.domain.job import FaultPhase
from broadway.grader.ports import ContainerError

UNREACHED = "its registry cannot be reached, or does not answer like one; the grader's log has the reason"
_STEP = re.compile(r"error pulling image configuration")  # the registry has given a manifest before
_TRANSPORT = re.compile(
    r"(?:Get|Head|Post|Put) \"|dial |lookup |read (?:tcp|udp)|EOF|connection re|x509|tls: |net/http|HTTP|Content-Type"
    r"|deadline|i/o timeout"
)
# The answers of a registry that courses can do something about.
_ANSWER = re.compile(
    r"(?:unauthorized|denied|toomanyrequests|(?:manifest|name) unknown|manifest for \S+ not found|no matching manifest)"
    r"[^\n]{0,200}"
)


async def demand_elsewhere(image: str) -> None:
    """Make sure that an image's registry is not at an address of this host, where no course should look for ports.

    Raises:
        ContainerError: It is at such an address, or its address cannot belong to another host.
    """
    host = host_of(image)
    if host and await _is_local(host):
        reason = (
            f"image {image}: its registry is at an address of the grader's own host, and this grader allows none there"
            " (--allow-local-registries)"
        )
        raise ContainerError(reason, phase=FaultPhase.PULL, retryable=False)


def host_of(image: str) -> str | None:
    """Return the host name or address of an image's registry; None for the engine's default registry."""
    first, slash, _ = image.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return None
    if first.startswith("["):
        return first[1:].partition("]")[0]
    return first.partition(":")[0]


def neutral(error: Exception) -> Exception:
    """Return an error of a pull without anything about connections: those would tell which ports are open."""
    if not isinstance(error, DockerException) or isinstance(error, ImageNotFound):
        return error
    text = str(getattr(error, "explanation", None) or error)
    if not _TRANSPORT.search(text):
        return error
    step = _STEP.match(text)
    answer = answer_in(text)
    return DockerException(f"{step[0]}: {answer}" if step and answer is UNREACHED else answer)


def answer_in(text: str) -> str:
    """Return the answer of a registry in an error's text, without anything about connections."""
    if (answer := _ANSWER.search(text)) and not _TRANSPORT.search(answer[0]):
        return answer[0]
    return UNREACHED


async def _is_local(host: str) -> bool:
    """Return True if any address of a host is this host's own; a name that is unknown here is left to the engine."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_own(str(address[0])) for *_, address in found)


def _is_own(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - of the protocol
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))  # possible only for addresses of this host
        except OSError:
            return False
    return True
