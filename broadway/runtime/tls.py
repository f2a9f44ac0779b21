"""TLS: the certificate authorities that this process trusts."""

import ssl
from pathlib import Path


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's certificate authorities and those in a PEM file, and checks host names.

    Raises:
        OSError: The file cannot be read, or contains no certificate.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def check_authorities(ca_file: Path) -> None:
    """Check that a PEM file contains certificates, without reading those of the system, which takes 20 ms.

    Raises:
        OSError: The file cannot be read, or contains no certificate.
    """
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)


def distrust(error: BaseException) -> str:
    """Return the reason why a certificate was rejected, if that caused an error; otherwise an empty text."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message
        seen = seen.__cause__ or seen.__context__
    return ""
