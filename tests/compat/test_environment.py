"""Section 8 of the reference: the variables of a stage, and the layers from which they come."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from compat.protocol import COURSE, Poller, Server, data
from harness import stage, token_of

LAYERS = ["config", "stage", "run"]  # later wins
KINDS = {"pre": "pre_processing", "students": "student", "post": "post_processing"}


async def register(server: Server, name: str, *, env: Any, stages: Sequence[Any]) -> None:
    """Register an assignment with the same stages in each of its pipelines."""
    pipelines = {f"{kind}_pipeline": stages for kind in ("student", "pre_processing", "post_processing")}
    body = {"env": env, **pipelines}
    assert data(await server.client.post(f"grading_config/{COURSE}/{name}", body, token=token_of(COURSE))) is None


async def start(server: Server, name: str, students: Sequence[Any], **more: Any) -> str:
    body = {"students_env": students, **more}
    answer = await server.client.post(f"grading_run/{COURSE}/{name}", body, token=token_of(COURSE))
    return str(data(answer)["grading_run_id"])


async def environments(poller: Poller) -> list[Any]:
    """Take and finish the next job, and return the environments of its stages."""
    job = await poller.take()
    await poller.finish(job)
    return [stage["env"] for stage in job["stages"]]


async def test_each_layer_wins_over_those_before_it_in_every_phase(server: Server, name: str) -> None:
    defined = {  # by variable, the layers that define it; they give it its name
        "_".join(layers): layers
        for layers in (["config"], ["stage"], ["run"], LAYERS[:2], LAYERS[1:], ["config", "run"], LAYERS)
    }

    def layer(which: str) -> dict[str, str]:
        return {variable: which for variable, layers in defined.items() if which in layers}

    await register(server, name, env=layer("config"), stages=[stage(env=layer("stage")), stage()])
    both = {"pre_processing_env": layer("run"), "post_processing_env": layer("run")}
    run_id = await start(server, name, [layer("run")], **both)
    poller = await server.poller(name)

    for _ in KINDS:
        job = await poller.take()
        own = {"GRADING_RUN_ID": run_id, "GRADING_JOB_ID": job["grading_job_id"]}
        with_stage, without_stage = (each["env"] for each in job["stages"])
        assert with_stage == own | {variable: layers[-1] for variable, layers in defined.items()}
        remaining = {variable: [each for each in layers if each != "stage"] for variable, layers in defined.items()}
        assert without_stage == own | {variable: layers[-1] for variable, layers in remaining.items() if layers}
        await poller.finish(job)


async def test_the_jobs_id_cannot_be_overridden_and_the_runs_only_by_stage_and_run(server: Server, name: str) -> None:
    both = {"GRADING_RUN_ID": "mine", "GRADING_JOB_ID": "mine"}
    plain = f"{name}-plain"
    await register(server, plain, env=both, stages=[stage(), stage(env=both)])
    await register(server, name, env=both, stages=[stage()])
    poller = await server.poller(name)

    run_id = await start(server, plain, [])
    job = await poller.take()
    await poller.finish(job)
    assert [each["env"] for each in job["stages"]] == [
        {"GRADING_RUN_ID": run_id, "GRADING_JOB_ID": job["grading_job_id"]},
        {"GRADING_RUN_ID": "mine", "GRADING_JOB_ID": job["grading_job_id"]},
    ]
    await poller.grade()
    await start(server, name, [], pre_processing_env=both)
    job = await poller.take()
    assert job["stages"][0]["env"] == {"GRADING_RUN_ID": "mine", "GRADING_JOB_ID": job["grading_job_id"]}


@pytest.mark.parametrize("value", [1, 0.5, True, None, "", "é\n</", [1, {"a": []}], {"k": [None]}])
async def test_values_keep_their_type(server: Server, name: str, value: Any) -> None:
    await server.client.register(COURSE, name, students=[stage(env={"STAGE": value})], env={"CONFIG": value})
    await start(server, name, [{"RUN": value}])

    (environment,) = await environments(await server.poller(name))

    for layer in ("CONFIG", "STAGE", "RUN"):
        assert json.dumps(environment[layer]) == json.dumps(value)


async def test_nothing_of_one_student_reaches_another(server: Server, name: str) -> None:
    """Bug 1: variables of one student leaked into all later students' jobs."""
    await server.client.register(COURSE, name, students=[stage(env={"X": "stage"}), stage()])
    run_id = await start(server, name, [{"A": "1", "X": "run"}, {"B": "2"}, {"A": "3"}])
    poller = await server.poller(name)

    seen = [await environments(poller) for _ in range(3)]

    for environment in (each for stages in seen for each in stages):
        assert environment.pop("GRADING_RUN_ID") == run_id
    jobs = list(await server.jobs(run_id))
    assert [[each.pop("GRADING_JOB_ID") for each in stages] for stages in seen] == [[job] * 2 for job in jobs]
    assert seen == [
        [{"A": "1", "X": "run"}, {"A": "1", "X": "run"}],
        [{"B": "2", "X": "stage"}, {"B": "2"}],
        [{"A": "3", "X": "stage"}, {"A": "3"}],
    ]


async def test_nothing_of_one_run_reaches_the_next(server: Server, name: str) -> None:
    await register(server, name, env={"A": "config"}, stages=[stage(env={"B": "stage"})])
    poller = await server.poller(name)
    await start(server, name, [{"A": "1", "B": "1", "C": "1"}], pre_processing_env={"D": "1"})
    for _ in KINDS:
        await poller.grade()

    await start(server, name, [{}])

    for _ in KINDS:
        (environment,) = await environments(poller)
        assert (environment["A"], environment["B"]) == ("config", "stage")
        assert set(environment) == {"A", "B", "GRADING_RUN_ID", "GRADING_JOB_ID"}
    config = data(await server.client.get(f"grading_config/{COURSE}/{name}", token=token_of(COURSE)))
    assert (config["env"], config["student_pipeline"]) == ({"A": "config"}, [stage(env={"B": "stage"})])


async def test_the_courses_see_the_values_that_graders_get(server: Server, name: str) -> None:
    """C5 has the merged values."""
    await register(server, name, env={"A": "config"}, stages=[stage(env={"B": "stage"})])
    run_id = await start(server, name, [{"C": "run"}], pre_processing_env={"D": "pre"}, post_processing_env={"E": 5})
    poller = await server.poller(name)
    given = []
    for _ in KINDS:
        job = await poller.take()
        await poller.finish(job)
        given.append({job["grading_job_id"]: {key: [value] for key, value in job["stages"][0]["env"].items()}})

    shown = data(await server.client.get(f"grading_run_env/{COURSE}/{run_id}", token=token_of(COURSE)))

    assert [shown[f"{kind}_env"] for kind in KINDS.values()] == given


async def test_stages_are_handed_out_as_they_were_posted_and_always_with_an_environment(
    server: Server, name: str
) -> None:
    """Bug 11: graders failed on a stage with the key ``logs``; they get the stage without it."""
    stages: list[dict[str, Any]] = [
        {"image": "a"},
        {"image": "b", "timeout": 30, "memory": "64m", "entrypoint": ["x"], "networking": False, "hostname": "h"},
        {"image": "c", "logs": True},
        {"image": "d", "logs": False, "privileged": False, "cpuset_cpus": "0"},
    ]
    await server.client.register(COURSE, name, students=stages)
    run_id = await start(server, name, [{}])
    poller = await server.poller(name)
    job = await poller.take()

    env = {"GRADING_RUN_ID": run_id, "GRADING_JOB_ID": job["grading_job_id"]}
    assert set(job) == {"grading_job_id", "stages"}
    assert job["stages"] == [
        {key: value for key, value in posted.items() if key != "logs"} | {"env": env} for posted in stages
    ]
