"""Sections 1 and 2 of the reference: every endpoint's path, its envelopes and its headers for browsers."""

import pytest
from compat.protocol import (
    ALL,
    CLIENTS,
    CLUSTER_TOKEN,
    CORS,
    COURSE,
    JSON,
    MALFORMED,
    STREAM,
    WEBSOCKET,
    Endpoint,
    Server,
    bearer,
    data,
    is_invalid,
    is_refused,
)
from harness import stage, token_of

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
POSTS = ["grading_config/{course}/mp1", "grading_run/{course}/mp1", "worker/new", "grading_job/{worker}"]

each_endpoint = pytest.mark.parametrize("endpoint", ALL, ids=str)


def methods_of(endpoint: Endpoint) -> set[str]:
    """Return all methods of an endpoint's path, which other endpoints may share."""
    return {other.method for other in ALL if other.path == endpoint.path}


# 2.1 envelopes


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [b"", b"{", b'{"hostname": "\xff"}'])
async def test_a_body_that_is_not_json_is_refused_in_the_originals_words(
    server: Server, name: str, path: str, body: bytes
) -> None:
    await server.poller(name)
    is_workers = path.startswith(("worker", "grading_job"))
    token = CLUSTER_TOKEN if is_workers else token_of(COURSE)
    url = "/api/v1/" + path.format(course=COURSE, worker=name)

    answer = await server.http.post(url, content=body, headers=bearer(token))

    assert is_invalid(answer, MALFORMED)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [[], {}, {"unknown": 1}])
async def test_a_body_of_another_shape_is_refused_with_a_string(
    server: Server, name: str, path: str, body: object
) -> None:
    await server.poller(name)
    is_workers = path.startswith(("worker", "grading_job"))
    token = CLUSTER_TOKEN if is_workers else token_of(COURSE)

    answer = await server.client.post(path.format(course=COURSE, worker=name), body, token=token)

    assert is_invalid(answer)


async def test_the_content_type_of_a_request_is_ignored(server: Server, name: str) -> None:
    headers = {**bearer(token_of(COURSE)), "Content-Type": "text/plain; charset=latin-1"}
    body = b'{"student_pipeline": [{"image": "a"}]}'

    assert (
        data(await server.http.post(f"/api/v1/grading_config/{COURSE}/{name}", content=body, headers=headers)) is None
    )


@each_endpoint
async def test_other_methods_are_not_allowed(server: Server, endpoint: Endpoint) -> None:
    for method in set(METHODS) - methods_of(endpoint):
        answer = await server.http.request(method, endpoint.at())

        assert (answer.status_code, answer.headers[CORS]) == (405, "*")
        assert answer.headers["content-type"] == JSON
        assert answer.json() == {"status": "error", "message": "Method Not Allowed", "code": 405}


@each_endpoint
async def test_head_is_not_allowed(server: Server, endpoint: Endpoint) -> None:
    answer = await server.http.head(endpoint.at(), headers=bearer(token_of(COURSE)))

    assert (answer.status_code, answer.headers[CORS]) == (405, "*")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/grading_config/cs241/mp1/",
        "/api/v1/grading_config/cs241/m.p1",
        "/api/v1/grading_config/cs%32%34%31%20/mp1",
        "/api/v1/worker_ws/a.b",
        "/api/v1/queue/cs241",
        "/api/v1/heartbeat/a/b",
        "/api/v1",
    ],
)
async def test_paths_that_match_no_route_are_not_found(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        assert (await server.http.request(method, path, headers=bearer(token_of(COURSE)))).status_code == 404


async def test_ids_may_have_letters_digits_dashes_and_underscores(server: Server, name: str) -> None:
    assignment = f"{name}-A_z0"
    await server.client.register(COURSE, assignment, students=[stage()])
    run_id = await server.client.submit(COURSE, assignment, students=1)
    poller = await server.poller(f"{name}-worker_A")

    assert list(await server.jobs(run_id)) == [(await poller.take())["grading_job_id"]]


# 2.2 CORS


@each_endpoint
async def test_preflights_need_no_token(server: Server, endpoint: Endpoint) -> None:
    answer = await server.http.options(endpoint.at(course="nowhere"))

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[CORS] == "*"
    allowed = answer.headers["access-control-allow-headers"].split(",")
    assert "Authorization" in [header.strip() for header in allowed]


async def test_preflights_of_streams_forbid_caching_and_start_none(server: Server) -> None:
    answer = await server.http.options(STREAM.at())

    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "text/event-stream" not in answer.headers.get("content-type", "")


@each_endpoint
async def test_refusals_may_be_read_by_other_origins(server: Server, endpoint: Endpoint) -> None:
    answer = await server.http.request(endpoint.method, endpoint.at())

    assert answer.status_code == (400 if endpoint is WEBSOCKET else 401)
    assert answer.headers[CORS] == "*"


async def test_all_client_endpoints_answer_in_envelopes(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    for endpoint in CLIENTS:
        answer = await server.ask(endpoint, token_of(COURSE))
        assert answer.headers["content-type"] == JSON
        assert answer.headers[CORS] == "*"
        assert answer.json()["status"] in ("success", "fail")


# The answers of section 1 without an envelope, or with a status that HTTP does not know


async def test_a_heartbeat_has_an_empty_answer(server: Server, name: str) -> None:
    """W4."""
    await server.poller(name)
    lines = f"POST /api/v1/heartbeat/{name} HTTP/1.1\nAuthorization: Bearer {CLUSTER_TOKEN}\nContent-Length: 0"

    head, _, body = (await server.exchange(lines)).partition(b"\r\n\r\n")

    status, *fields = head.decode().splitlines()
    headers = {field.partition(":")[0].lower(): field.partition(":")[2].strip() for field in fields}
    assert (status, body) == ("HTTP/1.1 200 OK", b"")
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == "0"
    assert headers[CORS] == "*"


async def test_an_empty_queue_has_its_own_status(server: Server, name: str) -> None:
    """W2."""
    poller = await server.poller(name)
    lines = f"GET /api/v1/grading_job/{name} HTTP/1.1\nAuthorization: Bearer {CLUSTER_TOKEN}"

    assert (await server.exchange(lines)).startswith(b"HTTP/1.1 498 Unknown\r\n")
    assert is_refused(await poller.poll(), 498, "no jobs available")


async def test_registering_and_listing_differ_by_the_number_of_segments(server: Server, name: str) -> None:
    token = bearer(CLUSTER_TOKEN)

    assert (await server.http.get(f"/api/v1/worker/{name}", headers=token)).status_code == 405
    assert (await server.http.post(f"/api/v1/worker/{COURSE}/all", headers=token)).status_code == 405
