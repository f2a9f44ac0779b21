"""The reasons of failed HTTP requests, for people and logs.

A library's text about a header, an address or the encoding of either quotes it, and so may contain a token or a
password. Such texts are replaced.
"""

import httpx2

# Errors before anything is sent: all concern the request's own address and headers.
_OWN = (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, UnicodeError)
UNSENT = (httpx2.HTTPError, *_OWN)


def why(error: Exception) -> str:
    """Return the reason of an error that a request raised; never a part of its headers or its address."""
    match error:
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return "the address is not valid; expected http://host:port or https://host:port"
        case httpx2.LocalProtocolError() | UnicodeError():
            return "the request cannot be sent: a token or an address has characters that no header can carry"
        case httpx2.TimeoutException():
            return str(error) or "no answer in time"
        case httpx2.TooManyRedirects():
            return "it redirects without end"
        case httpx2.DecodingError():
            return "its answer cannot be decompressed"
        case _:
            return str(error) or type(error).__name__
