"""Configs with forbidden values: their registration is refused with the stage and the key."""

from typing import Any

import pytest
from harness import Client, stage, token_of
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.assignment import AssignmentConfig
from broadway.ingest.commands.limits import Limits, RejectedError, check_limits

UNTRUSTED = {"untrusted": True, "write": ["out"]}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"privileged": True}, "privileged"),
    ({"volumes": ["/:/host"]}, "volumes"),
    ({"volumes_from": ["other"]}, "volumes_from"),
    ({"mounts": [{"source": "/"}]}, "mounts"),
    ({"network_mode": "host"}, "network_mode"),
    ({"networking": "host"}, "networking"),
    ({"devices": ["/dev/vda"]}, "devices"),
    ({"cap_add": ["SYS_ADMIN"]}, "cap_add"),
    ({"security_opt": ["seccomp=unconfined"]}, "security_opt"),
    ({"pid_mode": "host"}, "pid_mode"),
    ({"ipc_mode": "host"}, "ipc_mode"),
    ({"user": "root"}, "user"),
    ({"runtime": "runc"}, "runtime"),
    ({"entrypoint": "sh -c evil"}, "entrypoint"),
    ({"entrypoint": ["sh", 1]}, "entrypoint"),
    ({"timeout": 1e9}, "stages may run"),
    ({"timeout": -1}, "timeout"),
    ({"memory": "0"}, "memory"),
    ({"image": ""}, "image"),
    ({"cpuset_cpus": "all"}, "cpuset_cpus"),
    ({"cpuset_cpus": "0,"}, "cpuset_cpus"),
    ({"cpuset_cpus": "3-1"}, "cpuset_cpus"),
    ({"cpuset_cpus": "0-1-2"}, "cpuset_cpus"),
    ({"cpuset_cpus": "\u0663"}, "cpuset_cpus"),
    ({"env": {"": 1}}, "student_pipeline.1.env: "),
    ({"env": {"A=B": 1}}, "student_pipeline.1.env: "),
    ({"env": {str(number): 1 for number in range(1001)}}, "student_pipeline.1.env: has 1001 variables"),
    ({"env": {"A": "x" * 1024 * 1024}}, "student_pipeline.1.env: the variable A has 1048579 bytes"),
    ({"env": {"B": "x" * (128 * 1024 - 2)}}, "student_pipeline.1.env: the variable B has 131073 bytes as NAME=value"),
    ({"env": {"A": "b\0"}}, "student_pipeline.1.env: the variable A contains NUL"),
    ({"env": {f"A{n}": "x" * 100_000 for n in range(11)}}, "student_pipeline.1.env: the variables have 11000"),
    ({**UNTRUSTED, "networking": True}, "networking"),
    ({**UNTRUSTED, "privileged": True}, "privileged"),
    ({**UNTRUSTED, "results": "results.json"}, "results"),
    ({**UNTRUSTED, "read": ["../etc"]}, "read"),
    ({**UNTRUSTED, "read": ["/etc"]}, "read"),
    ({**UNTRUSTED, "read": ["a/../../b"]}, "read"),
    ({**UNTRUSTED, "read": ["a//b"]}, "read"),
    ({**UNTRUSTED, "read": ["-rf"]}, "read"),
    ({**UNTRUSTED, "read": ["a\nb"]}, "read"),
    ({**UNTRUSTED, "read": ["out/x"]}, "overlap"),
    ({**UNTRUSTED, "read": ["out"]}, "overlap"),
    ({"untrusted": True, "write": ["a", "a/b"]}, "overlap"),
    ({"untrusted": True, "write": [f"d{number}" for number in range(17)]}, "write"),
    ({**UNTRUSTED, "inherit": ["A B"]}, "inherit"),
    ({"untrusted": "yes"}, "untrusted"),
    ({"read": ["a"]}, "read"),
    ({"write": ["a"]}, "write"),
    ({"inherit": ["A"]}, "inherit"),
    ({"results": "../results.json"}, "results"),
]


@pytest.mark.parametrize(("asked", "named"), REFUSED, ids=[str(asked)[:60] for asked, _ in REFUSED])
async def test_a_forbidden_config_is_refused_and_not_stored(
    client: Client, course: str, database: AsyncDatabase[dict[str, Any]], asked: dict[str, Any], named: str
) -> None:
    body = {"student_pipeline": [stage(), {**stage(), **asked}]}
    answer = await client.post(f"grading_config/{course}/mp1", body, token=token_of(course))

    assert answer.status_code == 400
    assert named in answer.text
    assert "student_pipeline" in answer.text
    assert await database["assignment_config"].count_documents({"_id": f"{course}/mp1"}) == 0


def test_results_must_not_be_in_a_path_that_a_student_may_write() -> None:
    pipeline = [{**stage(), **UNTRUSTED}, {**stage(), "results": "out/results.json"}]
    with pytest.raises(ValueError, match=r"results, write: out and out/results\.json overlap"):
        AssignmentConfig.model_validate({"student_pipeline": pipeline})


def test_an_image_that_the_operator_does_not_allow_is_refused() -> None:
    config = AssignmentConfig.model_validate({"student_pipeline": [{**stage(), "image": "evil/miner:1"}]})
    with pytest.raises(RejectedError, match=r"student_pipeline\.0\.image: evil/miner:1"):
        check_limits(config, Limits(max_job_seconds=1000, images=["ours/*"]), course="cs1")


def test_a_pipeline_may_mix_trusted_and_untrusted_stages() -> None:
    pipeline = [
        stage(),
        {**stage(), "untrusted": True, "read": ["submission"], "write": ["out"], "inherit": ["STUDENT_ID"]},
        {**stage(), "untrusted": True, "read": ["out"], "write": ["more/results"]},
        {**stage(), "results": "results.json"},
    ]
    config = AssignmentConfig.model_validate({"student_pipeline": pipeline})

    assert config.as_posted()["student_pipeline"] == pipeline
    assert [each.has_network for each in config.student_pipeline] == [True, False, False, True]
