"""The addresses to which callbacks may go: the table of section 7 of the product's notes, and its relatives."""

from ipaddress import ip_address, ip_network

import pytest

from broadway.domain.callback_addresses import AddressRules, EndpointError, is_public, literal_address

REFUSED = (
    "127.0.0.1",
    "::1",
    "::",
    "0.0.0.0",
    "169.254.169.254",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "::ffff:0:7f00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "192.0.0.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "fd00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
)
PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1")
ADDRESSES = (
    *("http://example.org/", "ftp://example.org/", "https://", "//example.org/", "example.org"),
    *("https://user:secret@example.org/", "https://@example.org/", "https://example.org:22/", "https://example.org/#x"),
    *(
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "https://LOCALHOST./",
    ),
    *("https://exa mple.org/", "https://example.org/\n", "https://①②⑦.0.0.1/", "https://example.org\\@10.0.0.1/"),
    *("https://example.org:99999/", "https://example.org/" + "a" * 2000),
)


@pytest.mark.parametrize("text", REFUSED)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    address = literal_address(text)
    assert address is not None
    assert not is_public(address)
    assert not AddressRules().permits(address)
    with pytest.raises(EndpointError, match="not a public address"):
        AddressRules().check_addresses(["8.8.8.8", text])


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_permitted(text: str) -> None:
    assert AddressRules().check_addresses([text]) == ip_address(text)


@pytest.mark.parametrize("texts", [[], ["fe80::1%eth0"], ["no address"]], ids=["empty", "scope", "name"])
def test_a_lookup_without_a_usable_address_is_refused(texts: list[str]) -> None:
    with pytest.raises(EndpointError):
        AddressRules().check_addresses(texts)


def test_the_operator_allows_networks_and_only_those() -> None:
    rules = AddressRules(allowed=(ip_network("10.1.0.0/16"),))
    assert rules.check_addresses(["10.1.2.3"]) == ip_address("10.1.2.3")
    assert rules.permits(ip_address("::ffff:10.1.2.3"))
    for other in ("10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1"):
        assert not rules.permits(ip_address(other))


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_endpoint_is_refused_that_names_no_public_service_over_tls(text: str) -> None:
    with pytest.raises(EndpointError, match=r"^url: "):
        AddressRules().check_url(text)


@pytest.mark.parametrize("text", ["https://example.org/hook?x=1", "https://example.org:443/", "https://8.8.8.8/"])
def test_an_endpoint_with_a_public_name_is_accepted(text: str) -> None:
    assert AddressRules().check_url(text).scheme == "https"


def test_the_operator_allows_ports_and_plain_http() -> None:
    rules = AddressRules(ports=frozenset({80, 8443}), plain_http=True)
    assert rules.check_url("http://example.org/").port == 80
    assert rules.check_url("https://example.org:8443/").port == 8443
    with pytest.raises(EndpointError, match="port 443 is not allowed; allowed are 80, 8443"):
        rules.check_url("https://example.org/")
