"""Signing in through an OpenID Connect provider: a real one of a package, and one that lies."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from json import dumps
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from doors import Door, Doors
from graded import World
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from providers import CLIENT, SECRET, Provider, kept_provider
from visitors import Visitor

from broadway.ingest.http.admission import EXCHANGES
from broadway.ingest.openid.answers import MAX_ANSWER

FOREVER = 10**10


@pytest.fixture(scope="session")
async def provider() -> AsyncIterator[Provider]:
    async with Provider().running() as running:
        yield running


def settings_of(issuer: str, **more: Any) -> dict[str, Any]:
    return {"issuer": issuer, "client_id": CLIENT, "client_secret": SECRET, "url": "http://127.0.0.1", **more}


class Browser:
    """A browser that is sent to a provider and back."""

    def __init__(self, door: Door, provider: Provider) -> None:
        self.visitor = Visitor(door.client.http)
        self.provider = provider
        self.state = ""

    async def begin(self, back: str = "") -> str:
        answer = await self.visitor.get(f"/ui/openid?{urlencode({'next': back})}")
        assert answer.status_code == 303, answer.text
        address = answer.headers["location"]
        self.state = parse_qs(urlsplit(address).query)["state"][0]
        return address

    async def sign_in(self, back: str = "", **query: str) -> httpx2.Response:
        code = self.provider.grant(await self.begin(back))
        return await self.come_back(code=code, **query)

    async def come_back(self, **query: str) -> httpx2.Response:
        return await self.visitor.get(f"/ui/openid/back?{urlencode({'state': self.state, **query})}")


@pytest.fixture
async def door(doors: Doors, world: World, provider: Provider) -> AsyncIterator[Door]:
    """A service that knows the provider; ``ana`` is staff of the course of the world."""
    provider.claims, provider.more, provider.sign, provider.is_down = {}, None, None, False
    provider.in_token = provider.in_description = lambda fields: fields
    staff = f"{world.course}:ana,{world.course}:groups=tutors,none:ana"
    oidc = settings_of(provider.issuer, domain="example.edu", staff=staff, operators="root,groups=admins")
    async with doors(oidc=oidc) as opened:
        yield opened


@pytest.fixture
def browser(door: Door, provider: Provider) -> Browser:
    provider.claims = address_of("ada")
    return Browser(door, provider)


def address_of(name: str, **more: Any) -> dict[str, Any]:
    return {"email": f"{name}@example.edu", "email_verified": True, **more}


async def test_a_student_signs_in_through_the_provider_of_a_package(doors: Doors, world: World) -> None:
    async with kept_provider() as issuer, doors(oidc=settings_of(issuer, unverified=True, domain="cs.edu")) as door:
        visitor = Visitor(door.client.http)
        form = await visitor.text("/ui/sign-in")
        assert "Sign in with your university account" in form
        asked = await visitor.get("/ui/openid?next=/ui/me/a/mp1")
        async with httpx2.AsyncClient() as elsewhere:
            granted = await elsewhere.post(asked.headers["location"], data={"sub": "ada@cs.edu"})
        back = urlsplit(granted.headers["location"])
        assert (back.netloc, back.path) == ("127.0.0.1", "/ui/openid/back")
        done = await visitor.get(f"{back.path}?{back.query}")
        assert (done.status_code, done.headers["location"]) == (303, "/ui/me/a/mp1"), done.text
        assert "mp1" in await visitor.text("/ui/me")
        assert (await visitor.get(f"/ui/c/{world.course}")).status_code == 404
        sessions = await visitor.text("/ui/sessions")
        assert "OpenID Connect" in sessions
        again = await visitor.get(f"{back.path}?{back.query}")
        assert again.status_code == 400  # the browser's part was for one answer
        await visitor.post("/ui/sign-out")
        assert (await visitor.get("/ui/me")).status_code == 303


async def test_the_cookie_of_a_sign_in_is_for_one_answer_and_no_script(browser: Browser) -> None:
    answer = await browser.visitor.get("/ui/openid")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("broadway-openid=")
    assert {"HttpOnly", "SameSite=lax", "Max-Age=900"} <= {part.strip() for part in cookie.split(";")}
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    secret = cookie.partition("=")[2].partition(".")[0]
    assert secret not in answer.headers["location"]
    assert query["redirect_uri"] == ["http://127.0.0.1/ui/openid/back"]
    assert query["scope"] == ["openid profile email"]
    browser.state = query["state"][0]
    done = await browser.come_back(code=browser.provider.grant(answer.headers["location"]))
    assert any(
        each.startswith('broadway-openid=""') and "Max-Age=0" in each
        for each in done.headers.get_list("set-cookie")
    )


@pytest.mark.parametrize(
    ("claims", "path"),
    [
        (address_of("ana"), "/ui"),
        (address_of("x", groups=["tutors"]), "/ui"),
        (address_of("x", groups="admins"), "/ui"),
        (address_of("root"), "/ui"),
        (address_of("ADA"), "/ui"),
    ],
    ids=["staff by name", "staff by a group", "operator by a value", "operator by name", "address in capitals"],
)
async def test_claims_decide_on_the_role(browser: Browser, world: World, claims: dict[str, Any], path: str) -> None:
    browser.provider.claims = claims
    done = await browser.sign_in()
    assert (done.status_code, done.headers["location"]) == (303, path), done.text
    name = claims["email"].partition("@")[0]
    is_staff = name == "ana" or claims.get("groups") == ["tutors"]
    is_operator = name == "root" or claims.get("groups") == "admins"
    assert ((await browser.visitor.get(f"/ui/c/{world.course}")).status_code == 200) is is_staff
    assert ((await browser.visitor.get("/ui/ops")).status_code == 200) is is_operator
    assert ((await browser.visitor.get("/ui/me")).status_code == 200) is (name == "ADA")


async def test_a_person_with_several_roles_changes_between_them(browser: Browser, world: World) -> None:
    browser.provider.claims = address_of("ada", groups=["tutors", "admins"])
    done = await browser.sign_in()
    assert done.headers["location"] == "/ui/roles"
    page = await browser.visitor.text("/ui/roles")
    words = ["operator", f"staff of {world.course}", f"student of {world.course}"]
    assert [word in page for word in words] == [True] * 3
    assert (await browser.visitor.get("/ui/ops")).status_code == 200
    (before,) = [cookie.value for cookie in browser.visitor.http.cookies.jar if cookie.name == "broadway"]
    assert (await browser.visitor.post("/ui/roles", {"role": "2"})).status_code == 303
    assert (await browser.visitor.get("/ui/me")).status_code == 200
    assert (await browser.visitor.get("/ui/ops")).status_code == 404
    for role in ("3", "-1", "", "9999999999999"):
        assert (await browser.visitor.post("/ui/roles", {"role": role})).status_code == 409
    browser.visitor.http.cookies.set("broadway", before, domain="127.0.0.1", path="/")
    browser.visitor.http.cookies.delete("broadway", domain="127.0.0.1", path="/")
    assert (await browser.visitor.http.get("/ui/ops", headers={"Cookie": f"broadway={before}"})).status_code == 303
    await browser.sign_in()
    entries = [{"student": "bob"}]
    assert (await world.ask("assignments/mp1/roster", "PUT", json={"students": entries})).status_code == 200
    assert (await browser.visitor.post("/ui/roles", {"role": "2"})).status_code == 409  # the roster has changed


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (address_of("nobody"), "no course here has nobody in a roster"),
        (address_of("ada") | {"email_verified": False}, "has verified the address"),
        ({"email": "ada@example.edu"}, "has verified the address"),
        ({"email": "ada@example.edu.evil.example", "email_verified": True}, "does not belong to example.edu"),
        ({"email": "ada", "email_verified": True}, "does not belong to example.edu"),
        ({"email": ["ada@example.edu"], "email_verified": True}, "sent no email"),
        ({}, "sent no email"),
        (address_of("<b>x</b>"), "&lt;b&gt;x&lt;/b&gt;"),
        (address_of("a\x00da"), "is no name"),
        (address_of("x" * 201), "is no name"),
    ],
    ids=[
        "no member", "not verified", "silent", "other domain", "no domain", "a list", "nothing", "markup", "NUL", "long"
    ],
)  # fmt: skip
async def test_a_person_without_a_name_or_a_course_reads_what_to_do(
    browser: Browser, claims: dict[str, Any], words: str
) -> None:
    browser.provider.claims = claims
    refused = await browser.sign_in()
    assert (refused.status_code, words in refused.text) == (403, True), refused.text
    assert "broadway=" not in refused.headers.get_list("set-cookie")
    assert (await browser.visitor.get("/ui/me")).status_code == 303


def unsigned(claims: dict[str, Any]) -> str:
    parts = [dumps(each).encode() for each in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join([*(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


def signed_by_another_key(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": provider.key.kid}, claims, RSAKey.generate_key(2048))


def signed_by_the_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    public = OctKey.import_key(provider.key.as_pem(private=False))
    return jwt.encode({"alg": "HS256", "kid": provider.key.kid}, claims, public)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iss": "https://evil.example"}, "iss has not the value"),
        ({"aud": "another"}, "aud has not the value"),
        ({"aud": [CLIENT, "another"]}, "azp has not the value"),
        ({"azp": "another"}, "azp has not the value"),
        ({"nonce": "another"}, "belongs to another sign-in"),
        ({"nonce": None}, "belongs to another sign-in"),
        ({"exp": 1000}, "the clocks of the provider and of this server differ"),
        ({"exp": "soon"}, "the clocks"),
        ({"iat": FOREVER, "exp": FOREVER + 1}, "the clocks of the provider and of this server differ"),
        ({"nbf": FOREVER}, "the clocks of the provider and of this server differ"),
        ({"at_hash": "wrong"}, "at_hash has not the value"),
        ({"sub": None}, "sub has not the value"),
    ],
    ids=[
        "issuer", "audience", "audiences", "party", "nonce", "no nonce", "expired", "no time", "future", "not yet",
        "hash", "no person",
    ],
)  # fmt: skip
async def test_a_token_with_a_wrong_claim_is_refused(browser: Browser, change: dict[str, Any], words: str) -> None:
    browser.provider.in_token = lambda claims: {k: v for k, v in (claims | change).items() if v is not None}
    refused = await browser.sign_in()
    assert (refused.status_code, words in refused.text) == (403, True), refused.text
    assert (await browser.visitor.get("/ui/me")).status_code == 303


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (lambda _, claims: unsigned(claims), "signed by none"),
        (signed_by_another_key, "its signature is wrong"),
        (signed_by_the_public_key, "signed by HS256"),
        (lambda provider, claims: f"{provider.signed(claims)[:-4]}AAAA", "its signature is wrong"),
        (lambda *_: "no token", "it has no signature"),
        (lambda *_: "", "it has no signature"),
        (lambda *_: "e30." * 40_000, "is longer than"),
        (lambda _, claims: jwt.encode({"alg": "RS256", "kid": "?"}, claims, RSAKey.generate_key(2048)), "is unknown"),
    ],
    ids=["none", "another key", "public key as secret", "changed", "text", "empty", "long", "unknown key"],
)
async def test_a_token_without_a_right_signature_is_refused(browser: Browser, sign: Any, words: str) -> None:
    provider = browser.provider
    provider.sign = lambda claims: sign(provider, claims)
    refused = await browser.sign_in()
    assert (refused.status_code, words in refused.text) == (403, True), refused.text


async def test_a_code_of_another_browser_and_a_replayed_one_sign_nobody_in(browser: Browser, doors: Doors) -> None:
    code = browser.provider.grant(await browser.begin())
    state = browser.state
    await browser.begin()  # the browser begins anew, and its state is another one
    for given in (state, "", "x", "\u00e9"):
        browser.state = given
        refused = await browser.come_back(code=code)
        assert (refused.status_code, "was not begun in this browser" in refused.text) == (400, True)
    await browser.begin()
    stolen = await browser.come_back(code=code)  # with the state of this browser: PKCE refuses the foreign code
    assert (stolen.status_code, "used already" in stolen.text) == (403, True)
    assert (await browser.visitor.get("/ui/me")).status_code == 303

    code = browser.provider.grant(await browser.begin())
    cookie = browser.visitor.http.cookies.get("broadway-openid")
    assert (await browser.come_back(code=code)).status_code == 303
    browser.visitor.http.cookies.clear()
    browser.visitor.http.cookies.set("broadway-openid", str(cookie))
    replayed = await browser.come_back(code=code)
    assert (replayed.status_code, "used already" in replayed.text) == (403, True)


async def test_an_answer_in_the_name_of_another_issuer_is_refused(browser: Browser) -> None:
    refused = await browser.sign_in(iss="https://evil.example")
    assert (refused.status_code, "another provider" in refused.text) == (403, True)
    assert browser.provider.asked.get("/token", 0) == (before := browser.provider.asked.get("/token", 0))
    assert (await browser.sign_in(iss=browser.provider.issuer)).status_code == 303
    assert browser.provider.asked["/token"] == before + 1


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/ui", "/ui//evil.example", "/\\evil.example"])
async def test_the_way_back_leads_to_no_other_site(browser: Browser, back: str) -> None:
    assert (await browser.sign_in(back)).headers["location"] == "/ui"
    code = browser.provider.grant(await browser.begin("/ui/me"))
    secret = str(browser.visitor.http.cookies.get("broadway-openid")).partition(".")[0].strip('"')
    browser.visitor.http.cookies.clear()
    browser.visitor.http.cookies.set("broadway-openid", f'"{secret}.{back}"')
    assert (await browser.come_back(code=code)).headers["location"] == "/ui"


async def test_claims_that_are_asked_for_apart_belong_to_the_same_person(browser: Browser, doors: Doors) -> None:
    provider = browser.provider
    provider.claims, provider.more = {}, {"sub": "1", **address_of("ada")}
    async with doors(oidc=settings_of(provider.issuer, domain="example.edu")) as door:
        assert (await Browser(door, provider).sign_in()).status_code == 303
        provider.more = {"sub": "2", **address_of("ada")}
        refused = await Browser(door, provider).sign_in()
        assert (refused.status_code, "about different people" in refused.text) == (403, True)


async def test_a_cancelled_sign_in_is_no_error_of_ours(browser: Browser) -> None:
    await browser.begin()
    cancelled = await browser.come_back(error="access_denied", error_description="<script>")
    assert (cancelled.status_code, "was cancelled" in cancelled.text) == (403, True)
    assert "<script>" not in cancelled.text


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields | {"issuer": "https://evil.example"},
        lambda fields: fields | {"token_endpoint": "ftp://localhost/token"},
        lambda fields: fields | {"jwks_uri": "http://["},
        lambda fields: fields | {"code_challenge_methods_supported": ["plain"]},
        lambda fields: fields | {"id_token_signing_alg_values_supported": ["HS256"]},
        lambda fields: fields | {"padding": "x" * MAX_ANSWER},
        lambda _: {},
    ],
    ids=["issuer", "endpoint", "keys", "PKCE", "algorithms", "size", "empty"],
)
async def test_a_description_that_cannot_be_used_is_our_problem(browser: Browser, change: Any) -> None:
    browser.provider.in_description = change
    down = await browser.visitor.get("/ui/openid")
    assert (down.status_code, "does not answer as it should" in down.text) == (503, True)
    assert "set-cookie" not in down.headers
    assert "token_endpoint" not in down.text


async def test_a_provider_that_is_down_is_asked_once_for_all(browser: Browser) -> None:
    provider = browser.provider
    provider.is_down, asked = True, provider.asked.get("/.well-known/openid-configuration", 0)
    for _ in range(5):
        down = await browser.visitor.get("/ui/openid")
        assert (down.status_code, down.headers["retry-after"]) == (503, "5")
    assert provider.asked["/.well-known/openid-configuration"] - asked < 5
    assert (await browser.visitor.get("/ui/sign-in")).status_code == 200


async def test_description_and_keys_are_kept_and_new_keys_are_found(browser: Browser) -> None:
    provider = browser.provider
    before = dict(provider.asked)
    for _ in range(3):
        assert (await browser.sign_in()).status_code == 303
    assert provider.asked["/keys"] - before.get("/keys", 0) == 1
    assert provider.asked["/.well-known/openid-configuration"] - before.get("/.well-known/openid-configuration", 0) == 1


async def test_refused_answers_of_an_address_are_limited(browser: Browser) -> None:
    answers = []
    while 429 not in answers and len(answers) <= 2 * EXCHANGES:
        answer = await browser.visitor.get("/ui/openid")
        if answer.status_code == 303:
            browser.state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
            answer = await browser.come_back(code="wrong")
        answers.append(answer.status_code)
    assert set(answers) == {403, 429}
    assert len(answers) > EXCHANGES
    assert (await browser.visitor.get("/ui/sign-in")).status_code == 200


async def test_without_a_provider_there_is_no_such_page(stranger: Visitor) -> None:
    assert (await stranger.get("/ui/openid")).status_code == 404
    assert (await stranger.get("/ui/openid/back?code=x&state=y")).status_code == 404
    assert "university account" not in await stranger.text("/ui/sign-in")


