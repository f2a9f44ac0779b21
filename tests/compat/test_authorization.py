"""Sections 2.3 and 2.4 of the reference: permissions, the order of the checks, and the form of ids."""

import pytest
from compat.protocol import (
    ADMIN,
    ALL,
    CLIENTS,
    CLUSTER_TOKEN,
    COURSE,
    KNOWN_WORKER,
    MALFORMED,
    MEMBER,
    NO_LOG,
    NOBODY,
    NOT_FOUND_JOB,
    NOT_FOUND_RUN,
    OTHER_COURSE,
    REGISTER,
    WORKERS,
    Endpoint,
    Server,
    data,
    is_invalid,
    is_refused,
    query_token_of,
    result,
)
from harness import stage, token_of

BAD_HEADERS = [
    None,
    "",
    "Bearer",
    "{token}",
    "bearer {token}",
    "Basic {token}",
    "Bearer  {token}",
    "Bearer {token} more",
    "Bearer{token}",
]

each_clients = pytest.mark.parametrize("endpoint", CLIENTS, ids=str)
each_workers = pytest.mark.parametrize("endpoint", WORKERS, ids=str)


async def reaches_the_application(server: Server, endpoint: Endpoint, token: str, course: str = COURSE) -> bool:
    """Return whether a request passes authorization; it may fail later, on an unknown id or an invalid body."""
    return (await server.ask(endpoint, token, course=course)).status_code in (200, 400)


@pytest.mark.parametrize("endpoint", [*CLIENTS, *WORKERS], ids=str)
async def test_a_missing_or_badly_formed_header_is_refused_before_anything_else(
    server: Server, endpoint: Endpoint
) -> None:
    token = CLUSTER_TOKEN if endpoint in WORKERS else token_of(COURSE)
    for header in BAD_HEADERS:
        headers = {} if header is None else {"Authorization": header.format(token=token)}
        for course in (COURSE, "nowhere"):
            url = endpoint.at(course=course)
            answer = await server.http.request(endpoint.method, url, headers=headers, content=b"{")
            assert is_refused(answer, 401, "invalid token format"), header


@each_clients
async def test_the_course_is_checked_before_the_token_and_the_token_before_the_body(
    server: Server, endpoint: Endpoint
) -> None:
    assert is_refused(await server.ask(endpoint, token_of(COURSE), course="nowhere"), 401, "course not found")
    wrong = ["wrong", token_of(OTHER_COURSE), token_of(COURSE)[:-1], token_of(COURSE) + "x", CLUSTER_TOKEN]
    for token in wrong:
        assert is_refused(await server.ask(endpoint, token), 401, "invalid token")
    assert await reaches_the_application(server, endpoint, token_of(COURSE))


@each_clients
async def test_a_course_without_tokens_admits_no_request(server: Server, endpoint: Endpoint) -> None:
    assert is_refused(await server.ask(endpoint, token_of(COURSE), course="cs999"), 401, "invalid token")


@pytest.mark.parametrize("endpoint", ADMIN, ids=str)
async def test_query_tokens_may_not_administer(server: Server, endpoint: Endpoint) -> None:
    assert is_refused(await server.ask(endpoint, query_token_of(COURSE)), 401, "invalid token")


@pytest.mark.parametrize("endpoint", MEMBER, ids=str)
async def test_query_tokens_may_ask_for_states(server: Server, endpoint: Endpoint) -> None:
    assert await reaches_the_application(server, endpoint, query_token_of(COURSE))


@each_clients
async def test_one_token_may_serve_several_courses(server: Server, endpoint: Endpoint) -> None:
    for course in (COURSE, OTHER_COURSE):
        assert await reaches_the_application(server, endpoint, "shared", course)


@each_workers
async def test_workers_have_the_clusters_token(server: Server, endpoint: Endpoint) -> None:
    for token in ("wrong", token_of(COURSE), CLUSTER_TOKEN[:-1], CLUSTER_TOKEN + "x"):
        assert is_refused(await server.ask(endpoint, token), 401, "invalid token")


@pytest.mark.parametrize("endpoint", KNOWN_WORKER, ids=str)
async def test_workers_must_be_known_before_their_body_is_read(server: Server, endpoint: Endpoint) -> None:
    assert is_refused(await server.ask(endpoint), 401, "worker not found")


async def test_registering_needs_no_record_and_so_the_body_is_next(server: Server, name: str) -> None:
    assert is_invalid(await server.ask(REGISTER, worker=name), MALFORMED)


async def test_trailing_blanks_do_not_belong_to_a_header(server: Server) -> None:
    for header, status in ((f"Bearer {token_of(COURSE)}  ", 200), ("Bearer ", 401)):
        lines = f"GET /api/v1/queue/{COURSE}/length HTTP/1.1\nAuthorization: {header}"

        assert (await server.exchange(lines)).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("endpoint", ALL, ids=str)
async def test_nothing_is_ever_forbidden(server: Server, endpoint: Endpoint) -> None:
    for token in ("wrong", token_of(COURSE), query_token_of(COURSE), CLUSTER_TOKEN):
        assert (await server.ask(endpoint, token)).status_code != 403


async def test_another_courses_runs_and_jobs_do_not_exist(server: Server, name: str) -> None:
    """Bug 7: any course's token read every course's runs, environments, logs and streams."""
    await server.client.register(COURSE, name, students=[stage()])
    run_id = await server.client.submit(COURSE, name, students=1)
    (job_id,) = await server.jobs(run_id)

    async def is_unknown(path: str, identity: str) -> bool:
        """Return whether the other course gets the same answer as for an unused id."""
        real, unused = [
            await server.client.get(path.format(course=OTHER_COURSE, id=each), token=token_of(OTHER_COURSE))
            for each in (identity, NOBODY)
        ]
        return (real.status_code, real.json()) == (400, unused.json())

    assert await is_unknown("grading_run_status/{course}/{id}", run_id)
    assert await is_unknown("grading_run_env/{course}/{id}", run_id)
    assert await is_unknown("queue/{course}/{id}/position", job_id)
    poller = await server.poller(name)
    await poller.grade()
    assert await is_unknown("grading_job_log/{course}/{id}", job_id)
    assert data(await server.client.get(f"grading_job_log/{COURSE}/{job_id}", token=token_of(COURSE)))


async def test_every_course_sees_all_workers(server: Server, name: str) -> None:
    await server.poller(name)

    for course in (COURSE, OTHER_COURSE):
        nodes = data(await server.client.get(f"worker/{course}/all", token=token_of(course)))["worker_nodes"]
        assert f"{name}.example" in [node["hostname"] for node in nodes]


# 2.4 identifiers


async def test_ids_of_runs_and_jobs_are_24_hexadecimal_digits(server: Server, name: str) -> None:
    await server.client.register(COURSE, name, students=[stage()])
    run_id = await server.client.submit(COURSE, name, students=2)

    for identity in (run_id, *await server.jobs(run_id)):
        assert len(identity) == 24
        assert set(identity) <= set("0123456789abcdef")


@pytest.mark.parametrize("malformed", ["x", "1", NOBODY[:-1], NOBODY + "0", NOBODY[:-1] + "g", "-" * 24])
async def test_a_malformed_id_is_an_unknown_one(server: Server, name: str, malformed: str) -> None:
    paths = {
        "grading_run_status/{course}/{id}": NOT_FOUND_RUN,
        "grading_run_env/{course}/{id}": NOT_FOUND_RUN,
        "grading_job_log/{course}/{id}": NO_LOG,
        "queue/{course}/{id}/position": f"grading {NOT_FOUND_JOB}",
    }
    for path, message in paths.items():
        answer = await server.client.get(path.format(course=COURSE, id=malformed), token=token_of(COURSE))
        assert is_refused(answer, 400, message)
    poller = await server.poller(name)
    assert is_refused(await poller.tell(result(malformed)), 400, NOT_FOUND_JOB)
