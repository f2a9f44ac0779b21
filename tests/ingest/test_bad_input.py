"""Invalid bodies: each is refused with a clear message, stored data stays unchanged, and no answer is a 5xx."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from harness import IS_WHOLE, Client, stage, token_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.asynchronous.database import AsyncDatabase

MEBIBYTE = 1024 * 1024
TOO_LARGE = f"the request body is too large: {32 * MEBIBYTE} bytes are allowed"
MALFORMED = "Input is malformed; could not decode JSON object."

Database = AsyncDatabase[dict[str, Any]]


async def post(client: Client, path: str, body: bytes, *, token: str) -> httpx2.Response:
    return await client.http.post(f"/api/v1/{path}", content=body, headers={"Authorization": f"Bearer {token}"})


async def stored(database: Database, course: str) -> dict[str, list[dict[str, Any]]]:
    """Return the stored configs, runs and jobs of a course; a search by the prefix of an id would read all others."""
    assignments = {"$in": [f"{course}/{name}" for name in ("mp1", "mp2", "new")]}
    return {
        "configs": await database["assignment_config"].find({"_id": assignments}).to_list(),
        "runs": await database["grading_run"].find({"assignment_id": assignments}).to_list(),
        "jobs": await database["grading_job"].find({"course": course}).to_list(),
    }


@dataclass(frozen=True)
class Refusal:
    """A course with an older config, which all invalid bodies leave as it is."""

    client: Client
    database: Database
    course: str
    before: dict[str, list[dict[str, Any]]]

    async def __call__(self, kind: str, body: bytes, *, status: int = 400) -> str:
        """Send an invalid body and return the error text; check that the older config stays and nothing is stored."""
        for assignment in ("mp1", "new") if kind == "config" else ("mp1",):
            path = f"grading_{kind}/{self.course}/{assignment}"
            answer = await post(self.client, path, body, token=token_of(self.course))
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/json; charset=UTF-8"
            assert answer.headers["access-control-allow-origin"] == "*"

        assert await stored(self.database, self.course) == self.before
        content = answer.json()
        assert set(content) == {"status", "data"}
        assert content["status"] == "fail"
        text = content["data"] if isinstance(content["data"], str) else content["data"]["message"]
        assert text
        return str(text)


@pytest.fixture(scope="module")
async def refusal(client: Client, database: Database, course_of_module: str) -> Refusal:
    course = course_of_module
    await client.register(course, "mp1", students=[stage("print", "older")])
    before = await stored(database, course)
    assert before["configs"]
    return Refusal(client, database, course, before)


def config(**more: Any) -> dict[str, Any]:
    return {"student_pipeline": [{"image": "a"}], **more}


def with_env(value: str, key: str = "A") -> dict[str, bytes]:
    """Return a config and a run with a variable whose value is given as raw JSON."""
    env = f'{{"OK": 1, {json.dumps(key)}: {value}}}'
    return {
        "config": f'{{"student_pipeline": [{{"image": "a"}}, {{"image": "b", "env": {env}}}]}}'.encode(),
        "run": f'{{"students_env": [{{}}, {env}]}}'.encode(),
    }


# A value, and values that contain it; the suite takes the last one.
NESTED = ("%s", "[1, %s]", '[0, {"deep": [{"deeper": %s}]}]')
AT = {"config": "student_pipeline.1.env", "run": "students_env.1"}
BOTH = pytest.mark.parametrize("kind", ["config", "run"])


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"student_pipeline": [{"image": "a"}]',
        b'{"students_env": [{"A": "1"}],}',
        b"{'students_env': []}",
        b'{"students_env": [{"A": 01}]}',
        b'{"students_env": [{"A": "\xff"}]}',
        b'\xef\xbb\xbf{"students_env": []}',
        '{"students_env": []}'.encode("utf-16"),
        b'{"students_env": [{"A": "tab\tin text"}]}',
        b"\x00",
    ],
)
async def test_malformed_json_is_refused(refusal: Refusal, kind: str, body: bytes) -> None:
    assert await refusal(kind, body) == MALFORMED


@BOTH
@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"text"', b"true"])
async def test_a_json_body_must_be_an_object(refusal: Refusal, kind: str, body: bytes) -> None:
    assert (await refusal(kind, body)).startswith("the body: ")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "student_pipeline: "),
        ({"student_pipeline": None}, "student_pipeline: "),
        ({"student_pipeline": []}, "student_pipeline: "),
        ({"student_pipeline": {}}, "student_pipeline: "),
        ({"student_pipeline": [None]}, "student_pipeline.0: "),
        ({"student_pipeline": [{"image": "a"}, None]}, "student_pipeline.1: "),
        ({"student_pipeline": [{}]}, "student_pipeline.0.image: "),
        ({"student_pipeline": [{"image": None}]}, "student_pipeline.0.image: "),
        ({"student_pipeline": [{"image": "a", "imgae": "b"}]}, "student_pipeline.0.imgae: "),
        ({"student_pipeline": [{"image": "a", "env": None}]}, "student_pipeline.0.env: "),
        ({"student_pipeline": [{"image": "a", "entrypoint": "x"}]}, "student_pipeline.0.entrypoint: "),
        ({"student_pipeline": [{"image": "a", "entrypoint": [None]}]}, "student_pipeline.0.entrypoint.0: "),
        ({"student_pipeline": [{"image": "a", "timeout": True}]}, "student_pipeline.0.timeout: "),
        ({"student_pipeline": [{"image": "a", "timeout": "3"}]}, "student_pipeline.0.timeout: "),
        ({"student_pipeline": [{"image": "a", "timeout": 0}]}, "student_pipeline.0.timeout: "),
        ({"student_pipeline": [{"image": "a", "memory": "0"}]}, "student_pipeline.0.memory: "),
        ({"student_pipeline": [{"image": "a", "memory": "-1"}]}, "student_pipeline.0.memory: "),
        ({"student_pipeline": [{"image": "a", "networking": 1}]}, "student_pipeline.0.networking: "),
        (config(students_pipeline=[]), "students_pipeline: "),
        (config(env=[]), "env: "),
        (config(pre_processing_pipeline=[None]), "pre_processing_pipeline.0: "),
        (config(post_processing_pipeline=[{"image": 1}]), "post_processing_pipeline.0.image: "),
        (config(post_processing_pipeline={"image": "a"}), "post_processing_pipeline: "),
    ],
)
async def test_the_error_names_the_wrong_field_of_a_config(refusal: Refusal, body: Any, named: str) -> None:
    assert named in await refusal("config", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "students_env: "),
        ({"students_env": None}, "students_env: "),
        ({"students_env": {}}, "students_env: "),
        ({"students_env": [{}, None]}, "students_env.1: "),
        ({"students_env": [["A"]]}, "students_env.0: "),
        ({"students_env": [], "student_env": []}, "student_env: "),
        ({"students_env": [], "pre_processing_env": None}, "pre_processing_env: "),
        ({"students_env": [], "post_processing_env": []}, "post_processing_env: "),
        ({"students_env": [], "pre_processing_env": {}}, "no pre-processing stage"),
        ({"students_env": [], "post_processing_env": {}}, "no post-processing stage"),
        (
            {"students_env": [], "pre_processing_env": {}, "post_processing_env": {}},
            "pre-processing runtime environment provided",
        ),
    ],
)
async def test_the_error_names_the_wrong_field_of_a_run(refusal: Refusal, body: Any, named: str) -> None:
    assert named in await refusal("run", json.dumps(body).encode())


async def test_the_error_names_every_wrong_field(refusal: Refusal) -> None:
    body = {"student_pipeline": [{"image": 1, "logs": "no"}], "env": 7, "more": {}}
    text = await refusal("config", json.dumps(body).encode())

    assert [line.partition(": ")[0] for line in text.splitlines()] == [
        "student_pipeline.0.image",
        "student_pipeline.0.logs",
        "env",
        "more",
    ]


async def test_a_body_is_checked_before_the_assignment(client: Client, course: str) -> None:
    answer = await post(client, f"grading_run/{course}/unknown", b"{}", token=token_of(course))
    assert answer.json()["data"].startswith("students_env: ")

    answer = await post(client, f"grading_run/{course}/unknown", b'{"students_env": []}', token=token_of(course))
    assert answer.json()["data"] == {"message": "assignment configuration not found"}


@BOTH
@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("A", str(2**63), "an integer must fit 64 bits"),
        ("A", str(-(2**63) - 1), "an integer must fit 64 bits"),
        ("A", "9" * 5000, "an integer must fit 64 bits"),
        ("A", "-" + "9" * 200_000, "an integer must fit 64 bits"),
        ("A", "1e999", "a number must be finite"),
        ("A", "-1e999", "a number must be finite"),
        ("A", "NaN", "a number must be finite"),
        ("A", "Infinity", "a number must be finite"),
        ("A", "-Infinity", "a number must be finite"),
        ("A", '"\\ud800"', "half of a surrogate pair"),
        ("A", '"x\\udfff"', "half of a surrogate pair"),
        ("a.b", "1", "a key must not contain"),
        (".", "1", "a key must not contain"),
        ("$set", "1", "a key must not start with '$'"),
        ("$", "1", "a key must not start with '$'"),
        ("a\0b", "1", "a key must not contain"),
        ("\ud800", "1", "half of a surrogate pair"),
    ],
)
async def test_the_error_names_values_that_the_store_cannot_hold(
    refusal: Refusal, kind: str, key: str, value: str, told: str
) -> None:
    for nested in NESTED if IS_WHOLE else NESTED[-1:]:
        text = await refusal(kind, with_env(nested % value, key)[kind])
        assert text.startswith(AT[kind])
        assert told in text


@BOTH
async def test_the_error_names_a_deeply_nested_key(refusal: Refusal, kind: str) -> None:
    text = await refusal(kind, with_env('[{"x": {"$y": 1}}]')[kind])

    assert text == f"{AT[kind]}.A.0.x.$y: a key must not start with '$'"


@BOTH
async def test_the_error_shortens_a_very_long_key(refusal: Refusal, kind: str) -> None:
    text = await refusal(kind, with_env("1", "k" * MEBIBYTE + ".")[kind])

    assert "a key must not contain" in text
    assert len(text) < 1000


@BOTH
@pytest.mark.parametrize("depth", [33, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
async def test_deeply_nested_bodies_are_refused(
    refusal: Refusal, kind: str, depth: int, opening: str, closing: str
) -> None:
    body = with_env(opening * depth + "1" + closing * depth)[kind]

    assert "nested deeper than 32 levels" in await refusal(kind, body)


@BOTH
async def test_a_body_over_the_limit_is_refused(refusal: Refusal, kind: str) -> None:
    body = with_env('"' + "x" * 32 * MEBIBYTE + '"')[kind]

    assert await refusal(kind, body, status=413) == TOO_LARGE


async def test_a_chunked_body_over_the_limit_is_refused(client: Client, course: str) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b" " * MEBIBYTE

    headers = {"Authorization": f"Bearer {token_of(course)}"}
    answer = await client.http.post(f"/api/v1/grading_config/{course}/mp1", content=pieces(), headers=headers)
    assert (answer.status_code, answer.json()["data"]) == (413, TOO_LARGE)


async def test_without_a_token_a_body_over_the_limit_is_not_read(client: Client, course: str) -> None:
    answer = await client.http.post(f"/api/v1/grading_config/{course}/mp1", content=b" " * 33 * MEBIBYTE)

    assert (answer.status_code, answer.json()["data"]) == (401, {"message": "invalid token format"})


async def test_a_document_over_the_limit_of_the_store_is_refused(refusal: Refusal) -> None:
    large = config(student_pipeline=[{"image": "a", "timeout": 1, "entrypoint": ["x" * 100_000] * 5}] * 34)
    text = await refusal("config", json.dumps(large).encode())

    assert "too large to be stored" in text


async def test_a_job_that_is_too_large_after_merging_is_refused(
    client: Client, database: Database, course: str
) -> None:
    large = {f"BIG{number}": "x" * 125_000 for number in range(8)}
    await client.register(course, "mp2", students=[stage()] * 17, env=large)
    before = await stored(database, course)
    answer = await post(client, f"grading_run/{course}/mp2", b'{"students_env": [{}]}', token=token_of(course))

    assert (answer.status_code, answer.json()["status"]) == (400, "fail")
    assert "students_env.0: the stages of student_pipeline have 17" in answer.text
    assert "12582912 are allowed for a job" in answer.text
    assert await stored(database, course) == before


async def test_a_graders_body_over_the_limit_is_refused_with_problem_details(client: Client) -> None:
    headers = {"Authorization": "Bearer cluster-token"}
    answer = await client.http.post("/api/v2/graders/g1", content=b" " * 33 * MEBIBYTE, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.json()["detail"] == TOO_LARGE


async def test_a_large_body_within_the_limits_is_stored_unchanged(client: Client, course: str) -> None:
    variables = {f"A{number}": "ä" * 65_000 for number in range(8)}
    big = [stage(env=variables)] * 5 + [stage("x" * 131_000, "x" * 131_000)] * 5
    await client.register(course, "mp1", students=big)

    answer = await client.get(f"grading_config/{course}/mp1", token=token_of(course))
    assert answer.json()["data"]["student_pipeline"] == big


@pytest.mark.parametrize("pipeline", ["student", "pre_processing", "post_processing"])
async def test_privileged_stages_are_refused(refusal: Refusal, pipeline: str) -> None:
    body = config(**{f"{pipeline}_pipeline": [{"image": "a"}, {"image": "a", "privileged": True}]})
    text = await refusal("config", json.dumps(body).encode())

    assert text.startswith(f"{pipeline}_pipeline.1.privileged: ")


@pytest.mark.parametrize("pipeline", ["student", "pre_processing", "post_processing"])
@pytest.mark.parametrize("timeouts", [[1001], [500, 500.5], [980, None], [1e308, 1e308]])
async def test_time_limits_above_the_servers_limit_are_refused(
    refusal: Refusal, pipeline: str, timeouts: list[float | None]
) -> None:
    stages = [{"image": "a"} | ({"timeout": timeout} if timeout else {}) for timeout in timeouts]
    body = config(**{f"{pipeline}_pipeline": stages})
    text = await refusal("config", json.dumps(body).encode())

    assert text.startswith(f"{pipeline}_pipeline: ")
    assert "1000 s are allowed" in text


async def test_time_limits_up_to_the_servers_limit_are_accepted(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage(timeout=970), stage()])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"student_pipeline": None}, "student_pipeline"),
        ({"student_pipeline": []}, "student_pipeline"),
        ({"student_pipeline": [None]}, "student_pipeline"),
        ({"student_pipeline": [{"image": "a"}], "pre_processing_pipeline": [None]}, "pre_processing_pipeline"),
    ],
)
async def test_an_invalid_config_stored_by_the_original_starts_no_run(
    client: Client, database: Database, course: str, config: dict[str, Any], told: str
) -> None:
    await database["assignment_config"].insert_one({"_id": f"{course}/old", "env": None, **config})
    before = await stored(database, course)
    answer = await post(client, f"grading_run/{course}/old", b'{"students_env": [{}]}', token=token_of(course))

    assert (answer.status_code, answer.json()["status"]) == (400, "fail")
    assert answer.json()["data"]["message"].startswith(told)
    assert await stored(database, course) == before


# Generated bodies

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "a", "2g", "$", ".", "\ud800", "\0"])
)
keys = st.text(max_size=4) | st.sampled_from(
    ["image", "env", "timeout", "memory", "entrypoint", "GRADING_RUN_ID", "GRADING_JOB_ID", "_id", "$where", "a.b"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
envs = st.dictionaries(keys, values, max_size=3)
stages = st.fixed_dictionaries(
    {"image": st.just("a") | values},
    optional={
        "env": envs | values,
        "entrypoint": st.lists(st.text(max_size=3), max_size=2) | values,
        "networking": st.booleans() | values,
        "hostname": st.text(max_size=3),
        "timeout": st.integers(min_value=-1, max_value=100) | st.floats() | values,
        "memory": st.sampled_from(["1g", "0", "", "1x"]) | values,
        "logs": st.booleans() | values,
    },
)
pipelines = st.lists(stages, max_size=2) | values
configs = st.fixed_dictionaries(
    {"student_pipeline": st.lists(stages, min_size=1, max_size=2) | pipelines},
    optional={"env": envs | values, "pre_processing_pipeline": pipelines, "post_processing_pipeline": pipelines},
)
runs = st.fixed_dictionaries(
    {"students_env": st.lists(envs, max_size=3) | values},
    optional={"pre_processing_env": envs | values, "post_processing_env": envs | values},
)
raw = st.binary(max_size=40) | (configs | runs | values).map(lambda body: json.dumps(body).encode())


@given(body=configs)
@settings(max_examples=60 if IS_WHOLE else 30)
async def test_a_generated_config_is_stored_unchanged_or_refused(client: Client, fuzzed_course: str, body: Any) -> None:
    token = token_of(fuzzed_course)
    answer = await post(client, f"grading_config/{fuzzed_course}/any", json.dumps(body).encode(), token=token)

    assert answer.status_code in (200, 400)
    if answer.status_code == httpx2.codes.OK:
        stored_config = (await client.get(f"grading_config/{fuzzed_course}/any", token=token)).json()["data"]
        assert {key: value for key, value in stored_config.items() if key in body} == body
        answer = await post(client, f"grading_run/{fuzzed_course}/any", b'{"students_env": [{}]}', token=token)
        assert answer.status_code == 200


@given(body=runs)
@settings(max_examples=60 if IS_WHOLE else 30)
async def test_a_generated_run_is_readable_or_refused(client: Client, fuzzed_course: str, body: Any) -> None:
    token = token_of(fuzzed_course)
    answer = await post(client, f"grading_run/{fuzzed_course}/ready", json.dumps(body).encode(), token=token)

    assert answer.status_code in (200, 400)
    if answer.status_code == httpx2.codes.OK:
        run_id = answer.json()["data"]["grading_run_id"]
        for path in (f"grading_run_status/{fuzzed_course}/{run_id}", f"grading_run_env/{fuzzed_course}/{run_id}"):
            assert (await client.get(path, token=token)).status_code == 200
        assert (await client.describe(fuzzed_course, run_id))["id"] == run_id


@given(body=raw)
@settings(max_examples=60 if IS_WHOLE else 30)
async def test_a_generated_body_causes_no_server_error(client: Client, fuzzed_course: str, body: bytes) -> None:
    token = token_of(fuzzed_course)
    for path in (f"grading_config/{fuzzed_course}/raw", f"grading_run/{fuzzed_course}/ready"):
        assert (await post(client, path, body, token=token)).status_code in (200, 400)
    answer = await client.http.post(
        "/api/v2/graders/g1", content=body, headers={"Authorization": "Bearer cluster-token"}
    )
    assert answer.status_code in (200, 400)
