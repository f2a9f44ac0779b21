"""Signing in through an OpenID Connect provider: a real one of a package, and one that lies."""

import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from doors import Door, Doors
from graded import World
from harness import Client, token_of
from providers import CLIENT, SECRET, Provider, kept_provider
from pymongo.asynchronous.database import AsyncDatabase
from visitors import Visitor

from broadway.connections import Connections
from broadway.ingest.http.admission import EXCHANGES


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Provider]:
    async with Provider().running() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.begin()
    return running


@pytest.fixture(scope="module")
async def world(client: Client, opened: Connections, database: AsyncDatabase[dict[str, Any]]) -> World:
    """A course with students of names that no other course of the tests has."""
    tag = token_hex(4)
    await database["course"].insert_one({"_id": f"cs{tag}", "tokens": [f"staff-{tag}"], "query_tokens": []})
    world = World(client, f"cs{tag}", opened)
    await world.begin(f"ada-{tag}", f"bob-{tag}")
    return world


def settings_of(issuer: str, **more: Any) -> dict[str, Any]:
    return {"issuer": issuer, "client_id": CLIENT, "client_secret": SECRET, "url": "http://127.0.0.1", **more}


class Browser:
    """A browser that is sent to a provider and back."""

    def __init__(self, http: httpx2.AsyncClient, provider: Provider) -> None:
        self.visitor = Visitor(http)
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


@pytest.fixture(scope="module")
async def door(doors: Doors, world: World, running: Provider) -> AsyncIterator[Door]:
    """A service that knows the provider; ``ana`` is staff of the course of the world."""
    staff = f"{world.course}:ana,{world.course}:groups=tutors,none:ana"
    oidc = settings_of(running.issuer, domain="example.edu", staff=staff, operators="root,groups=admins")
    async with doors(oidc=oidc) as opened:
        yield opened


@pytest.fixture
def ada(world: World) -> str:
    return next(iter(world.jobs))


@pytest.fixture
async def browser(door: Door, provider: Provider, ada: str) -> AsyncIterator[Browser]:
    provider.claims = address_of(ada)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as http:
        yield Browser(http, provider)


def address_of(name: str, **more: Any) -> dict[str, Any]:
    return {"email": f"{name}@example.edu", "email_verified": True, **more}


async def test_a_student_signs_in_through_the_provider_of_a_package(doors: Doors, world: World, ada: str) -> None:
    async with kept_provider() as issuer, doors(oidc=settings_of(issuer, unverified=True, domain="cs.edu")) as door:
        visitor = Visitor(door.client.http)
        form = await visitor.text("/ui/sign-in")
        assert "Sign in with your university account" in form
        asked = await visitor.get("/ui/openid?next=/ui/me/a/mp1")
        async with httpx2.AsyncClient() as elsewhere:
            granted = await elsewhere.post(asked.headers["location"], data={"sub": f"{ada}@cs.edu"})
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
        each.startswith('broadway-openid=""') and "Max-Age=0" in each for each in done.headers.get_list("set-cookie")
    )


@pytest.mark.parametrize(
    ("claims", "path"),
    [
        (address_of("ana"), "/ui"),
        (address_of("x", groups=["tutors"]), "/ui"),
        (address_of("x", groups="admins"), "/ui"),
        (address_of("root"), "/ui"),
        (address_of("BOB"), "/ui"),
    ],
    ids=["staff by name", "staff by a group", "operator by a value", "operator by name", "address in capitals"],
)
async def test_claims_decide_on_the_role(browser: Browser, world: World, claims: dict[str, Any], path: str) -> None:
    name = claims["email"].partition("@")[0]
    is_bob = name == "BOB"
    browser.provider.claims = address_of(list(world.jobs)[1].upper()) if is_bob else claims
    done = await browser.sign_in()
    assert (done.status_code, done.headers["location"]) == (303, path), done.text
    is_staff = name == "ana" or claims.get("groups") == ["tutors"]
    is_operator = name == "root" or claims.get("groups") == "admins"
    assert ((await browser.visitor.get(f"/ui/c/{world.course}")).status_code == 200) is is_staff
    assert ((await browser.visitor.get("/ui/ops")).status_code == 200) is is_operator
    assert ((await browser.visitor.get("/ui/me")).status_code == 200) is is_bob


async def test_a_person_with_several_roles_changes_between_them(browser: Browser, world: World, ada: str) -> None:
    browser.provider.claims = address_of(ada, groups=["tutors", "admins"])
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
    browser.visitor.http.cookies.clear()
    assert (await browser.visitor.http.get("/ui/ops", headers={"Cookie": f"broadway={before}"})).status_code == 303
    await browser.sign_in()
    for students, status in (([each for each in world.jobs if each != ada], 409), (list(world.jobs), 303)):
        entries = [{"student": each} for each in students]
        assert (await world.ask("assignments/mp1/roster", "PUT", json={"students": entries})).status_code == 200
        assert (await browser.visitor.post("/ui/roles", {"role": "2"})).status_code == status


@pytest.mark.parametrize("place", ["/ui/sessions", "/ui/c/{course}/tokens"], ids=["operators", "staff"])
async def test_a_session_is_ended_by_those_into_whose_role_it_may_change(
    door: Door, browser: Browser, world: World, ada: str, place: str
) -> None:
    browser.provider.claims = address_of(ada, groups=["tutors", "admins"])
    await browser.sign_in()
    assert (await browser.visitor.post("/ui/roles", {"role": "2"})).status_code == 303
    assert (await browser.visitor.get("/ui/me")).status_code == 200
    page = place.format(course=world.course)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as http:
        other = Visitor(http)
        token = "operator-token" if page == "/ui/sessions" else token_of(world.course)
        assert (await other.post("/ui/sign-in", {"token": token})).status_code == 303
        row = next(part for part in (await other.text(page)).split("<tr>") if ada in part and "/end" in part)
        end = re.search(r'action="([^"]+/end)"', row)
        assert end is not None
        assert (await other.post(end[1])).status_code == 303
    assert (await browser.visitor.post("/ui/roles", {"role": "0"})).status_code == 303
    assert (await browser.visitor.get("/ui/ops")).status_code == 303  # to sign in


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (address_of("nobody"), "no course here has nobody in a roster"),
        (address_of("ada") | {"email_verified": False}, "has verified the address"),
        ({"email": "ada@example.edu"}, "has verified the address"),
        (address_of("<b>x</b>"), "&lt;b&gt;x&lt;/b&gt;"),
    ],
    ids=["no member", "not verified", "silent", "markup"],
)
async def test_a_person_without_a_name_or_a_course_reads_what_to_do(
    browser: Browser, claims: dict[str, Any], words: str
) -> None:
    browser.provider.claims = claims
    refused = await browser.sign_in()
    assert (refused.status_code, words in refused.text) == (403, True), refused.text
    assert "broadway=" not in refused.headers.get_list("set-cookie")
    assert (await browser.visitor.get("/ui/me")).status_code == 303


async def test_a_token_without_a_signature_signs_nobody_in(browser: Browser) -> None:
    header, claims = (urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"alg":"none"}', b"{}"))
    browser.provider.sign = lambda _: f"{header}.{claims}."
    refused = await browser.sign_in()
    assert (refused.status_code, "The provider&#39;s answer is not genuine" in refused.text) == (403, True)
    assert (await browser.visitor.get("/ui/me")).status_code == 303


async def test_a_code_of_another_browser_and_a_replayed_one_sign_nobody_in(browser: Browser) -> None:
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


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/ui", "/ui//evil.example", "/\\evil.example"])
async def test_the_way_back_leads_to_no_other_site(browser: Browser, back: str) -> None:
    assert (await browser.sign_in(back)).headers["location"] == "/ui"
    code = browser.provider.grant(await browser.begin("/ui/me"))
    secret = str(browser.visitor.http.cookies.get("broadway-openid")).partition(".")[0].strip('"')
    browser.visitor.http.cookies.clear()
    browser.visitor.http.cookies.set("broadway-openid", f'"{secret}.{back}"')
    assert (await browser.come_back(code=code)).headers["location"] == "/ui"


async def test_a_cancelled_sign_in_is_no_error_of_ours(browser: Browser) -> None:
    await browser.begin()
    cancelled = await browser.come_back(error="access_denied", error_description="<script>")
    assert (cancelled.status_code, "was cancelled" in cancelled.text) == (403, True)
    assert "<script>" not in cancelled.text


async def test_a_provider_that_is_down_is_no_fault_of_the_person(doors: Doors, provider: Provider) -> None:
    provider.is_down = True
    async with doors(oidc=settings_of(provider.issuer)) as door:
        visitor = Visitor(door.client.http)
        down = await visitor.get("/ui/openid")
        assert (down.status_code, down.headers["retry-after"]) == (503, "5")
        assert "does not answer as it should" in down.text
        assert "set-cookie" not in down.headers
        assert provider.issuer not in down.text
        assert (await visitor.get("/ui/sign-in")).status_code == 200


async def test_refused_answers_of_an_address_are_limited(browser: Browser) -> None:
    answers = []
    while 429 not in answers and len(answers) <= 2 * EXCHANGES:
        answer = await browser.visitor.get("/ui/openid")
        if answer.status_code == 303:
            browser.state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
            answer = await browser.come_back(code="wrong")
        answers.append(answer.status_code)
    assert set(answers) == {403, 429}
    assert len(answers) > EXCHANGES / 2  # other tests have taken from the same address
    assert (await browser.visitor.get("/ui/sign-in")).status_code == 200


async def test_without_a_provider_there_is_no_such_page(stranger: Visitor) -> None:
    assert (await stranger.get("/ui/openid")).status_code == 404
    assert (await stranger.get("/ui/openid/back?code=x&state=y")).status_code == 404
    assert "university account" not in await stranger.text("/ui/sign-in")
