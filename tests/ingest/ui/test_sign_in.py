"""Signing in and out: cookies, the origin of forms, rates, personal links, and the end of sessions."""

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from doors import Doors
from graded import World
from harness import Client, token_of
from pymongo.asynchronous.database import AsyncDatabase
from visitors import OWN, Visitor

from broadway.ingest.ui.sign_in import safe_path


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/ui/c/cs101/r/abc?find=x&page=2", "/ui/c/cs101/r/abc?find=x&page=2"),
        ("/ui", "/ui"),
        ("//evil.example/ui", "/ui"),
        ("/ui//evil.example", "/ui"),
        ("/\\evil.example", "/ui"),
        ("https://evil.example/ui", "/ui"),
        ("/ui/\r\nSet-Cookie:x=y", "/ui"),
        ("javascript:alert(1)", "/ui"),
        ("/uix", "/ui"),
        ("/ui/" + "a" * 600, "/ui"),
        ("", "/ui"),
    ],
)
def test_the_way_back_is_a_path_of_pages(given: str, path: str) -> None:
    assert safe_path(given) == path


async def test_signing_in_leads_back_and_signing_out_ends_the_session(world: World, stranger: Visitor) -> None:
    wanted = f"/ui/c/{world.course}?after=x"
    first = await stranger.get(wanted)
    assert (first.status_code, first.headers["location"]) == (
        303,
        f"/ui/sign-in?next=%2Fui%2Fc%2F{world.course}%3Fafter%3Dx",
    )
    form = await stranger.text(first.headers["location"])
    back = re.search(r'name="next" value="([^"]*)"', form)
    assert back is not None
    assert back[1] == wanted
    assert (await stranger.post("/ui/sign-in", {"token": "wrong"})).status_code == 422
    done = await stranger.post("/ui/sign-in", {"token": f" {token_of(world.course)} ", "next": wanted})
    assert (done.status_code, done.headers["location"]) == (303, wanted)
    cookie = done.headers["set-cookie"]
    assert cookie.startswith("broadway=")  # plain HTTP on this machine
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie

    (secret,) = stranger.http.cookies.values()
    assert (await stranger.get(wanted)).status_code == 200
    await stranger.post("/ui/sign-out")
    stranger.http.cookies.set("broadway", secret)
    assert (await stranger.get(wanted)).status_code == 303


async def test_a_stored_session_has_no_secret(
    staff: Visitor, world: World, database: AsyncDatabase[dict[str, Any]]
) -> None:
    (secret,) = staff.http.cookies.values()
    assert len(secret) >= 43  # 256 bits
    stored = await database["page_session"].find({"courses": world.course}).to_list()
    assert stored
    assert secret not in str(stored)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "own"},
    ],
    ids=["another site", "another host", "no header", "opaque", "another origin", "another port", "both"],
)
async def test_a_form_of_another_site_changes_nothing(
    kept_staff: Visitor, kept_world: World, headers: dict[str, str]
) -> None:
    origin = str(kept_staff.http.base_url).rstrip("/")
    given = {name: origin if value == "own" else value for name, value in headers.items()}
    for path in (
        "/ui/sign-out",
        "/ui/sign-in",
        f"/ui/c/{kept_world.course}/r/{kept_world.run}/cancel",
        "/s/bwl_" + "x" * 43,
    ):
        answer = await kept_staff.http.post(
            path, data={"sure": "yes", "token": token_of(kept_world.course)}, headers=given
        )
        assert (answer.status_code, "another site" in answer.text) == (403, True), path
        assert "set-cookie" not in answer.headers
    assert (await kept_staff.get(f"/ui/c/{kept_world.course}")).status_code == 200


async def test_an_older_browser_is_known_by_the_origin(stranger: Visitor, kept_world: World) -> None:
    origin = str(stranger.http.base_url).rstrip("/")
    form = {"token": token_of(kept_world.course)}
    assert (await stranger.http.post("/ui/sign-in", data=form, headers={"Origin": origin})).status_code == 303


async def test_wrong_tokens_of_an_address_are_limited_and_links_are_not(kept_world: World, doors: Doors) -> None:
    async with doors() as door:
        visitor = Visitor(door.client.http)
        answers = [await visitor.post("/ui/sign-in", {"token": f"guess-{n}"}) for n in range(7)]
        assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (await visitor.post("/ui/sign-in", {"token": token_of(kept_world.course)})).status_code == 429
        assert (await visitor.post("/ui/sign-in", {"token": kept_world.tokens["ada"]})).status_code == 303


async def test_without_tls_only_this_machine_signs_in(kept_world: World, stranger: Visitor, doors: Doors) -> None:
    elsewhere = {"Host": "grading.example"}
    page = await stranger.get("/ui/sign-in", headers=elsewhere)
    assert "needs HTTPS" in page.text
    assert "<input" not in page.text
    refused = await stranger.post("/ui/sign-in", {"token": token_of(kept_world.course)}, **elsewhere)
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    forged = {**elsewhere, "X-Forwarded-Proto": "https"}
    assert (await stranger.post("/ui/sign-in", {"token": token_of(kept_world.course)}, **forged)).status_code == 403

    async with doors(trusted_proxies="127.0.0.1") as door:
        behind = Visitor(door.client.http)
        done = await behind.post("/ui/sign-in", {"token": token_of(kept_world.course)}, **forged)
        assert done.status_code == 303, done.text
        cookie = done.headers["set-cookie"]
        assert cookie.startswith("__Host-broadway=")
        assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        secret = cookie.partition("=")[2].partition(";")[0]
        given = {**forged, "Cookie": f"__Host-broadway={secret}"}
        assert (await behind.get(f"/ui/c/{kept_world.course}", headers=given)).status_code == 200
        plain = {**elsewhere, "Cookie": f"broadway={secret}; __Host-broadway={secret}"}
        assert (await behind.get(f"/ui/c/{kept_world.course}", headers=plain)).status_code == 303


async def links(world: World, **body: Any) -> dict[str, str]:
    answer = await world.ask("assignments/mp1/student-links", "POST", json=body)
    assert answer.status_code == 200, answer.text
    return {each["student"]: f"/s/{each['token']}" for each in answer.json()["items"]}


async def test_a_personal_link_signs_its_student_in_by_a_button(world: World, stranger: Visitor) -> None:
    link = (await links(world))["ada"]
    for _ in range(2):  # programs that look at links in mails change nothing
        page = await stranger.get(link)
        assert (page.status_code, page.headers["referrer-policy"]) == (200, "no-referrer")
        assert "set-cookie" not in page.headers
    done = await stranger.post(link)
    assert (done.status_code, done.headers["location"]) == (303, "/ui")
    assert (await stranger.get("/ui")).headers["location"] == "/ui/me"
    assert (await stranger.get(f"/ui/j/{world.jobs['ada']}")).status_code == 200
    assert (await stranger.get(f"/ui/j/{world.jobs['bob']}")).status_code == 404
    api = {"Authorization": f"Bearer {link.removeprefix('/s/')}"}
    assert (await world.client.http.get("/api/v2/whoami", headers=api)).status_code == 401


async def test_a_revoked_or_replaced_link_ends_its_sessions(world: World, stranger: Visitor) -> None:
    earlier = await links(world)
    await stranger.post(earlier["ada"])
    assert (await stranger.get("/ui/me")).status_code == 200
    later = await links(world, replace=True)
    assert (await stranger.get("/ui/me")).status_code == 303
    assert (await stranger.post(earlier["ada"])).status_code == 404
    assert (await stranger.post(later["ada"])).status_code == 303
    (valid,) = [
        each
        for each in (await world.ask("student-tokens?student=ada")).json()["items"]
        if (each["kind"], each["state"]) == ("link", "valid")
    ]
    assert (await world.ask(f"student-tokens/{valid['id']}", "DELETE")).status_code == 204
    assert (await stranger.get("/ui/me")).status_code == 303
    assert (await stranger.post(later["ada"])).status_code == 404
    assert (await stranger.post("/s/" + "x" * 47)).status_code == 404


async def test_the_link_of_an_operator_is_for_one_use(client: Client, stranger: Visitor) -> None:
    headers = {"Authorization": "Bearer operator-token"}
    made = await client.http.post("/api/v2/sign-in-links", headers=headers)
    assert made.status_code == 200, made.text
    answers = await asyncio.gather(*(stranger.post(f"/s/{made.json()['token']}") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [303, 404, 404]
    assert (await stranger.get("/ui")).headers["location"] == "/ui/ops"


async def test_sessions_are_listed_and_ended_by_those_who_may(world: World, staff: Visitor, ada: Visitor) -> None:
    def ids(text: str) -> set[str]:
        return set(re.findall(r"/ui/sessions/(\w+)/end", text))

    own = ids(await ada.text("/ui/sessions"))
    all_ = ids(await staff.text("/ui/sessions"))
    assert len(own) == 1
    assert own < all_
    (of_staff,) = all_ - own
    assert (await ada.post(f"/ui/sessions/{of_staff}/end")).status_code == 404
    assert (await staff.post(f"/ui/sessions/{own.pop()}/end")).status_code == 303
    assert (await ada.get("/ui/me")).status_code == 303
    assert (await staff.get(f"/ui/c/{world.course}")).status_code == 200


async def test_static_files_are_kept_by_browsers_and_their_addresses_change_with_them(stranger: Visitor) -> None:
    page = await stranger.get("/ui/sign-in")
    for path in re.findall(r'(?:href|src)="(/ui/static/[^"]+)"', page.text):
        file = await stranger.get(path)
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert re.search(r"\.[0-9a-f]{16}\.(css|js|svg)$", urlsplit(path).path)
        assert (await stranger.get(path, headers={"Accept-Encoding": "identity"})).content == file.content
    assert (await stranger.get("/ui/static/style.css")).status_code == 404
    assert (await stranger.get("/ui/static/..%2fpage.py")).status_code == 404
    assert page.headers["content-encoding"] == "gzip"
    again = await stranger.get("/ui/sign-in", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_refusals_of_a_form_are_pages(kept_staff: Visitor) -> None:
    answer = await kept_staff.http.post("/ui/sign-in", content=b"x" * 20_000, headers=OWN)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Too large" in answer.text
    assert (await kept_staff.http.put("/ui/sessions", headers=OWN)).status_code == 405
