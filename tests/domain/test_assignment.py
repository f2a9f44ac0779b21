"""Assignments: accepted configs, the posted form that is returned, and the environment of a stage."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.assignment import AssignmentConfig, Stage, longest_run, prepare_stages, stage_env

FULL = {
    "image": "registry.example/grader:1",
    "env": {"LIST": ["a", 1], "OBJECT": {"deep": None}, "NOTHING": None},
    "entrypoint": ["/bin/sh", "-c", "true"],
    "networking": False,
    "privileged": True,
    "hostname": "grader",
    "timeout": 2.5,
    "cpuset_cpus": "0-1",
    "memory": "512m",
    "logs": False,
}

LAYERS = ("shared", "run id", "stage", "job", "job id")


@pytest.mark.parametrize("name", ["GRADING_RUN_ID", "GRADING_JOB_ID", "OTHER"])
@pytest.mark.parametrize("last", range(len(LAYERS)))
def test_later_layers_win(name: str, last: int) -> None:
    """Every layer up to ``last`` sets the variable, where it can."""

    def layer(number: int) -> dict[str, str]:
        return {name: LAYERS[number]} if number <= last else {}

    env = stage_env(shared=layer(0), stage=layer(2), job=layer(3), run_id="run id", job_id="job id")

    own = {"GRADING_RUN_ID": 1, "GRADING_JOB_ID": 4}.get(name)
    setters = {number for number in (0, 2, 3) if number <= last} | ({own} if own else set())
    assert env[name] == LAYERS[max(setters)]
    assert env["GRADING_JOB_ID"] == "job id"


def test_values_keep_their_json_type() -> None:
    values: dict[str, Any] = {"A": 1, "B": None, "C": [1, {"d": 2.5}], "D": True}

    assert stage_env(shared=None, stage={}, job=values, run_id="r", job_id="j").items() >= values.items()


def test_every_stage_is_a_copy_with_its_own_environment() -> None:
    pipeline = [{"image": "a", "env": {"S": "1"}, "timeout": 3}, {"image": "b"}, {"image": "c", "env": None}]
    before = copy.deepcopy(pipeline)

    stages = prepare_stages(pipeline, shared={"G": "0"}, job_env={"J": "2"}, run_id="r", job_id="j")

    assert pipeline == before
    assert [stage["image"] for stage in stages] == ["a", "b", "c"]
    assert [stage["env"].get("S") for stage in stages] == ["1", None, None]
    assert stages[0]["timeout"] == 3
    assert all(stage["env"].items() >= {"G": "0", "J": "2"}.items() for stage in stages)


def test_defaults_are_the_originals() -> None:
    stage = Stage(image="a")

    assert (stage.env, stage.entrypoint, stage.networking, stage.privileged) == ({}, [], True, False)
    assert (stage.hostname, stage.timeout, stage.memory, stage.logs) == ("container", 30, "2g", True)


@pytest.mark.parametrize(
    "config",
    [
        {"student_pipeline": [FULL]},
        {"student_pipeline": [{"image": "a"}], "env": None, "pre_processing_pipeline": None},
        {"student_pipeline": [{"image": "a"}, FULL], "post_processing_pipeline": [], "env": {"A": {"b": [1, 2.0]}}},
        {"student_pipeline": [{"image": "a", "env": {}, "entrypoint": [], "timeout": 30}]},
    ],
)
def test_a_config_is_returned_as_posted(config: dict[str, Any]) -> None:
    expected = {
        "student_pipeline": None,
        "pre_processing_pipeline": None,
        "post_processing_pipeline": None,
        "env": None,
    } | config

    returned = AssignmentConfig.model_validate(config).as_posted()

    assert repr(returned) == repr({key: expected[key] for key in returned})
    assert set(returned) == set(expected)


@pytest.mark.parametrize("memory", ["2g", "64m", "100000k", "1048576", "1048576b", "2G", "010m"])
def test_memory_may_have_any_unit(memory: str) -> None:
    assert Stage(image="a", memory=memory).memory == memory


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", None),
        ("image", ""),
        ("image", 7),
        ("env", None),
        ("env", []),
        ("env", "A=1"),
        ("entrypoint", "true"),
        ("entrypoint", [1]),
        ("entrypoint", None),
        ("networking", "yes"),
        ("networking", 1),
        ("privileged", None),
        ("privileged", 0),
        ("hostname", 1),
        ("timeout", True),
        ("timeout", False),
        ("timeout", "30"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", None),
        ("cpuset_cpus", 0),
        ("memory", "2 g"),
        ("memory", "lots"),
        ("memory", ""),
        ("memory", "0"),
        ("memory", "00g"),
        ("memory", "2g\n"),
        ("memory", 1024),
        ("logs", "no"),
        ("unheard_of", 1),
    ],
)
def test_a_wrong_key_of_a_stage_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        AssignmentConfig.model_validate({"student_pipeline": [{"image": "a"}, {"image": "a", key: value}]})

    (first, *_) = refusal.value.errors()
    assert first["loc"][:3] == ("student_pipeline", 1, key)


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({}, "student_pipeline"),
        ({"student_pipeline": None}, "student_pipeline"),
        ({"student_pipeline": []}, "student_pipeline"),
        ({"student_pipeline": {"image": "a"}}, "student_pipeline"),
        ({"student_pipeline": [None]}, "student_pipeline"),
        ({"student_pipeline": [{}]}, "student_pipeline"),
        ({"student_pipeline": [{"image": "a"}], "pre_processing_pipeline": [None]}, "pre_processing_pipeline"),
        ({"student_pipeline": [{"image": "a"}], "post_processing_pipeline": {}}, "post_processing_pipeline"),
        ({"student_pipeline": [{"image": "a"}], "env": []}, "env"),
        ({"student_pipeline": [{"image": "a"}], "students": 1}, "students"),
    ],
)
def test_a_wrong_config_is_refused_by_name(config: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        AssignmentConfig.model_validate(config)

    assert refusal.value.errors()[0]["loc"][0] == where


def test_time_limits_add_up_with_their_default() -> None:
    assert longest_run([{"image": "a"}, {"image": "b", "timeout": 5}, {"image": "c", "timeout": 0.5}]) == 35.5
