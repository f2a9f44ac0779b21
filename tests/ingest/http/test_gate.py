"""Rates of requests: by address, by token, and of wrong tokens; and the clients of proxies."""

import contextlib
import json

import httpx2
import pytest
from doors import Door, Doors
from harness import METRICS_TOKEN, until

CLOSE = "Host: x\r\nConnection: close\r\n"


def status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


def get(path: str, token: str | None = None, **headers: str) -> bytes:
    lines = {} if token is None else {"Authorization": f"Bearer {token}"}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in {**lines, **headers}.items())
    return f"GET {path} HTTP/1.1\r\n{CLOSE}{head}\r\n".encode()


def of(course: str, version: str = "v2") -> str:
    return f"/api/v2/courses/{course}" if version == "v2" else f"/api/v1/queue/{course}/length"


def detail(answer: str) -> str:
    body = json.loads(answer.partition("\r\n\r\n")[2])
    text: str = body["detail"] if "detail" in body else body["data"]["message"]
    return text


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_guesses_of_a_token_are_limited_and_harm_no_neighbor(doors: Doors, course: str, version: str) -> None:
    staff, second = f"staff-{course[2:]}", f"second-{course[2:]}"
    path = of(course, version)
    async with doors(http={"failures_per_minute": 5}) as door:
        assert status(await door.ask(get(path, staff), "127.0.0.2")) == 200
        guesses = [await door.ask(get(path, f"guess-{number}"), "127.0.0.2") for number in range(8)]

        assert [status(answer) for answer in guesses] == [401] * 5 + [429] * 3
        assert "too many wrong tokens from your address; try again in" in detail(guesses[-1])
        seconds = next(line for line in guesses[-1].splitlines() if line.lower().startswith("retry-after: "))
        assert 1 <= int(seconds[13:]) <= 12
        assert status(await door.ask(get(path, staff), "127.0.0.2")) == 200, "known to be valid"
        assert status(await door.ask(get(path, second), "127.0.0.2")) == 429, "not looked at, or a guess would be seen"
        assert status(await door.ask(get(path, second), "127.0.0.3")) == 200
        assert status(await door.ask(get(path, second), "127.0.0.2")) == 200
        assert status(await door.ask(get(path, "bws_" + "x" * 43), "127.0.0.2")) == 401, "too long to be guessed"
        assert status(await door.ask(get(path, "a-guess"), "127.0.0.3")) == 401
        assert await door.limited("failures") >= 4


async def test_guesses_over_websockets_count_like_others(doors: Doors, course: str) -> None:
    upgrade = {"Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    request = get("/api/v1/worker_ws/g1", "a-guess", **upgrade).replace(b"Connection: close", b"Connection: Upgrade")
    async with doors(http={"failures_per_minute": 2}) as door:
        for _ in range(2):
            async with door.connected("127.0.0.2") as line:
                await line.send(request)
                assert b"invalid token" in await line.reader.readuntil(b"invalid token")
        assert status(await door.ask(get(of(course), "a-guess"), "127.0.0.2")) == 429
        assert status(await door.ask(request, "127.0.0.2")) == 429


async def test_requests_of_an_address_without_a_known_token_have_a_rate(doors: Doors, course: str) -> None:
    token = f"staff-{course[2:]}"
    async with doors(http={"requests_per_address": 1}) as door:
        answers = [status(await door.ask(get("/docs"), "127.0.0.2")) for _ in range(20)]
        assert answers[:10] == [200] * 10, "ten seconds' worth may come at once"
        assert 429 in answers

        assert status(await door.ask(get("/livez"), "127.0.0.2")) == 200
        assert status(await door.ask(get("/docs"), "127.0.0.3")) == 200
        assert status(await door.ask(get(of(course), token), "127.0.0.3")) == 200
        assert status(await door.ask(get(of(course), token), "127.0.0.2")) == 200, "of its own rate"
        assert await door.limited("address-rate") >= 1


async def test_requests_with_one_token_have_a_rate(doors: Doors, course: str) -> None:
    one, other = f"staff-{course[2:]}", f"second-{course[2:]}"
    async with doors(http={"requests_per_token": 1}) as door:
        answers = [status(await door.ask(get(of(course), one), f"127.0.0.{2 + n % 2}")) for n in range(20)]
        assert answers[:10] == [200] * 10
        assert 429 in answers, "from whichever address"
        assert [status(await door.ask(get(of(course), other), "127.0.0.2")) for _ in range(5)] == [200] * 5
        assert await door.limited("token-rate") >= 1


async def test_clients_behind_a_trusted_proxy_are_told_apart(doors: Doors) -> None:
    async def flood(door: Door, forwarded: str, peer: str = "127.0.0.2") -> list[int]:
        request = get("/docs", X_Forwarded_For=forwarded)
        return [status(await door.ask(request, peer)) for _ in range(15)]

    async with doors(http={"requests_per_address": 1}, trusted_proxies="127.0.0.2, 10.0.0.0/8") as door:
        assert 429 in await flood(door, "192.0.2.1")
        assert (await flood(door, "192.0.2.2"))[:10] == [200] * 10
        assert 200 not in (await flood(door, "203.0.113.1, 192.0.2.1, 10.0.0.5"))[:1], "the client wrote the first"
        assert 429 in await flood(door, "198.51.100.1", peer="127.0.0.3")
        assert (await flood(door, "198.51.100.2", peer="127.0.0.3"))[-1] == 429, "anyone can write the header"


async def test_a_proxy_may_have_more_connections_than_one_address_and_its_clients_may_not(
    doors: Doors, course: str
) -> None:
    limits = {"connections": 64, "connections_per_address": 8}
    body = f"POST {of(course)}/hooks/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.%d\r\n"
    hook = {"assignment": "mp1", "secrets": ["a-secret-of-this-hook"]}
    async with doors(http=limits, trusted_proxies="127.0.0.2") as door:
        headers = {"Authorization": f"Bearer staff-{course[2:]}"}
        (await door.client.http.put(f"{of(course)}/hooks/x", json=hook, headers=headers)).raise_for_status()
        open_request = (body + f"X-Hub-Signature-256: sha256={'0' * 64}\r\nContent-Length: 9\r\n\r\n").encode()
        async with contextlib.AsyncExitStack() as all_:
            for number in range(12):
                line = await all_.enter_async_context(door.connected("127.0.0.2"))
                await line.send(open_request % (number % 2))  # six of each client's requests wait for their bodies

            async def is_refused() -> bool:
                return status(await door.ask(get("/docs", X_Forwarded_For="192.0.2.0"), "127.0.0.2")) == 429

            for _ in range(2):
                line = await all_.enter_async_context(door.connected("127.0.0.2"))
                await line.send(open_request % 0)
            await until(is_refused)
            assert status(await door.ask(get("/docs", X_Forwarded_For="192.0.2.1"), "127.0.0.2")) == 200


async def test_metrics_need_their_token(door: Door, course: str) -> None:
    for token in (None, "wrong", "cluster-token", f"staff-{course[2:]}"):
        assert status(await door.ask(get("/metrics", token))) == 401
    answer = await door.ask(get("/metrics", METRICS_TOKEN))
    assert (status(answer), "broadway_http_connections" in answer) == (200, True)


async def test_without_a_token_for_metrics_there_are_none_at_the_port_of_the_api(doors: Doors) -> None:
    async with doors(metrics_token=None) as door:
        assert status(await door.ask(get("/metrics"))) == 404
        assert status(await door.ask(get("/metrics", METRICS_TOKEN))) == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/api/v2/openapi.json"])
async def test_probes_and_pages_answer_to_head(door: Door, path: str) -> None:
    asked = await door.client.http.get(path)
    answer = await door.client.http.head(path)

    if path.startswith("/api/"):
        assert answer.status_code == 405, "as any other path of an interface"
    else:
        assert (answer.status_code, answer.content) == (asked.status_code, b"")
        assert answer.headers["content-length"] == asked.headers["content-length"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_v2_takes_the_scheme_of_a_token_in_any_case(door: Door, course: str, scheme: str) -> None:
    def asked(path: str) -> httpx2.Request:
        return httpx2.Request("GET", path, headers={"Authorization": f"{scheme} staff-{course[2:]}"})

    base = str(door.client.http.base_url)
    assert (await door.client.http.send(asked(base + of(course)))).status_code == 200
    v1 = await door.client.http.send(asked(base + of(course, "v1")))
    assert v1.status_code == (200 if scheme == "Bearer" else 401), "v1 stays as the original"
