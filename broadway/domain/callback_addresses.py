"""The addresses to which callbacks may be sent: public ones, and networks that the operator allows. Pure.

A course chooses its endpoints, so that they must not reach what only this network can: loopback addresses, services
inside the campus, or the metadata of a cloud. Addresses that carry another one are judged by the one they carry.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

MAX_URL = 2000  # characters
DEFAULT_PORTS = {"https": 443, "http": 80}

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
# Networks that the registry of special addresses calls global, or leaves out, and that lead to private ones.
_REFUSED: tuple[Network, ...] = (
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of a site
    IPv6Network("::ffff:0:0:0/96"),  # translated from IPv4
    IPv6Network("fec0::/10"),  # site-local
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
)


class EndpointError(ValueError):
    """An address is not allowed; the text gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The rules for endpoints.

    ``allowed`` networks need not be public. ``ports`` are those that endpoints may have. ``plain_http`` allows
    endpoints without TLS.
    """

    allowed: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({443})
    plain_http: bool = False

    def check_url(self, text: str) -> URL:
        """Return an endpoint's address if its parts are allowed; its host is looked up when a callback is sent.

        Raises:
            EndpointError: A part is not allowed.
        """
        schemes = ("https", "http") if self.plain_http else ("https",)
        url = _parsed(text)
        if url.scheme not in schemes or not url.host:
            raise EndpointError(f"url: expected an address, as in {schemes[0]}://host/path")
        if url.user is not None or url.password is not None or "@" in text.partition("//")[2].partition("/")[0]:
            raise EndpointError("url: expected no user and no password; check the signature instead")
        if url.fragment:
            raise EndpointError("url: expected no fragment; leave out the part from #")
        if url.port not in self.ports:
            listed = ", ".join(map(str, sorted(self.ports)))
            raise EndpointError(f"url: port {url.port} is not allowed; allowed are {listed} (--callback-ports)")
        literal = literal_address(url.host)
        if literal and not self.permits(literal):
            raise EndpointError(f"url: {_not_public(literal)}")
        if url.host.rstrip(".").lower() == "localhost" and not self.allowed:
            raise EndpointError("url: localhost is this host; give a public name (--callback-allow)")
        return url

    def check_addresses(self, texts: Sequence[str]) -> Address:
        """Return the address to connect to: the first of a lookup whose addresses are all permitted.

        Raises:
            EndpointError: The list is empty, or an address is not permitted.
        """
        addresses = [literal_address(text) for text in texts]
        if not addresses:
            raise EndpointError("the name has no address")
        for text, address in zip(texts, addresses, strict=True):
            if address is None or not self.permits(address):
                raise EndpointError(_not_public(address or text))
        first = addresses[0]
        assert first is not None  # noqa: S101 - each address was checked
        return first

    def permits(self, address: Address) -> bool:
        """Return whether callbacks may go to an address: it is public, or in an allowed network."""
        return all(_is_global(carried) or self._is_allowed(carried) for carried in _carried(address))

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self.allowed if _fits(address, network))


def literal_address(host: str) -> Address | None:
    """Return the address that a text is; None for a name, and for an address with a scope."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def is_public(address: Address) -> bool:
    """Return whether an address, and each address that it carries, is one of the public network."""
    return all(_is_global(carried) for carried in _carried(address))


def _carried(address: Address) -> Iterator[Address]:
    """Yield the addresses at which packets for an address arrive."""
    if isinstance(address, IPv4Address):
        yield address
        return
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield low
    else:
        yield address


def _is_global(address: Address) -> bool:
    is_refused = any(address in network for network in _REFUSED if _fits(address, network))
    return address.is_global and not address.is_multicast and not is_refused


def _fits(address: Address, network: Network) -> bool:
    return address.version == network.version


def _not_public(address: Address | str) -> str:
    return f"{str(address)[:100]} is not a public address; the operator can allow its network (--callback-allow)"


def _parsed(text: str) -> URL:
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise EndpointError(f"url: expected at most {MAX_URL} printable ASCII characters without spaces")
    try:
        return URL(text)
    except ValueError as error:
        raise EndpointError(f"url: not an address: {str(error)[:100]}") from error
