"""Addresses of HTTP servers, for people and clients."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def http_address(host: str, port: int, *, scheme: str = "http") -> str:
    """Return the address of a server; an IPv6 address gets its brackets."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def local_address(host: str, port: int, *, scheme: str = "http") -> str:
    """Return the address at which clients on this machine find a server that listens on ``host``."""
    return http_address(_EVERYWHERE.get(host, host), port, scheme=scheme)
