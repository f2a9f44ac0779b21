"""The settings of the HTTP port: limits on clients, together and per address."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from broadway.settings.places import Place

MEBIBYTE = 1024 * 1024

Network = IPv4Network | IPv6Network


def networks(text: str) -> Sequence[Network]:
    """Return the networks in a list of addresses and networks that is separated by commas.

    Raises:
        ValueError: A part is neither an address nor a network; the text names it.
    """
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(ip_network(part))
        except ValueError:
            raise ValueError(f"{part[:100]}: expected an address or a network, as in 192.0.2.7 or 10.0.0.0/8") from None
    return found


def _of_networks(text: str) -> str:
    networks(text)
    return text


def temporary_directory() -> Path:
    return Path(gettempdir())


Networks = Annotated[str, Field(max_length=10_000), AfterValidator(_of_networks)]


class HttpSettings(BaseModel):
    """Limits on the clients of the HTTP port. A client's address is an IPv4 address or an IPv6 network of /64.

    A limit per address counts at most as high as the limit on all addresses together.
    """

    model_config = ConfigDict(extra="forbid")

    connections: int = Field(default=6000, ge=16, le=1_000_000, description="limit on connections")
    connections_per_address: int = Field(
        default=3000, ge=8, le=1_000_000, description="limit on connections from one address"
    )
    body_memory: int = Field(
        default=192 * MEBIBYTE, ge=MEBIBYTE, le=2**40, description="limit on request bodies in memory, in bytes"
    )
    body_memory_per_address: int = Field(
        default=112 * MEBIBYTE,
        ge=MEBIBYTE,
        le=2**40,
        description="limit on request bodies from one address in memory, in bytes",
    )
    spool_dir: Annotated[Path, Place.DIRECTORY] = Field(
        default_factory=temporary_directory, description="directory for deliveries whose signature is not checked yet"
    )
    spool_size: int = Field(
        default=512 * MEBIBYTE, ge=MEBIBYTE, le=2**50, description="limit on these deliveries, in bytes"
    )
    spool_size_per_address: int = Field(
        default=128 * MEBIBYTE,
        ge=MEBIBYTE,
        le=2**50,
        description="limit on these deliveries from one address, in bytes",
    )
    reads: int = Field(default=4000, ge=1, le=1_000_000, description="limit on small reads at a time")
    reads_per_course: int = Field(
        default=3000, ge=1, le=1_000_000, description="limit on small reads of one course at a time"
    )
    large_reads: int = Field(
        default=256, ge=1, le=1_000_000, description="limit on large reads at a time, such as those of whole runs"
    )
    large_reads_per_course: int = Field(
        default=128, ge=1, le=1_000_000, description="limit on large reads of one course at a time"
    )
    failures_per_minute: int = Field(
        default=60, ge=1, le=1_000_000, description="limit on wrong tokens from one address in a minute"
    )
    requests_per_address: int = Field(
        default=300,
        ge=1,
        le=1_000_000,
        description="limit on requests per second from one address without a token that is known to be valid",
    )
    requests_per_token: int = Field(
        default=1000, ge=1, le=1_000_000, description="limit on requests per second with one token"
    )
