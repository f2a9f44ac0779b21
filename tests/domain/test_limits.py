"""What an operator lets courses ask for."""

from typing import Any

import pytest

from broadway.assignment import AssignmentConfig, memory_bytes
from broadway.ingest.submit import Limits, RejectedError, check_limits

OURS = Limits(max_job_seconds=100, images=("registry.example/cs*/*", "debian:?*"), max_memory="4g")


def config(*stages: dict[str, Any], **more: Any) -> AssignmentConfig:
    return AssignmentConfig.model_validate({"student_pipeline": list(stages), **more})


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1", 1), ("512b", 512), ("2k", 2048), ("2Kb", 2048), ("1.5m", 1572864), ("4G", 2**32), ("1tb", 2**40)],
)
def test_memory_is_spelled_as_the_engine_has_it(text: str, bytes_: int) -> None:
    assert memory_bytes(text) == bytes_


def test_what_is_allowed() -> None:
    check_limits(config({"image": "registry.example/cs241/mp1:3", "memory": "4096m", "timeout": 100}), OURS)
    check_limits(config({"image": "debian:12"}), OURS)
    check_limits(config({"image": "anything"}), Limits(max_job_seconds=100))


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        ({"image": "evil/miner"}, "student_pipeline.1.image: evil/miner is none of the images that this server allows"),
        ({"image": "xregistry.example/cs1/a"}, "student_pipeline.1.image: "),
        ({"image": "DEBIAN:12"}, "student_pipeline.1.image: "),
        ({"image": "debian:12", "memory": "4097m"}, "student_pipeline.1.memory: 4097m is more than"),
        ({"image": "debian:12", "privileged": True}, "student_pipeline.1.privileged: "),
        ({"image": "debian:12", "timeout": 100}, "student_pipeline: its stages may run 130 s together"),
    ],
)
def test_what_is_refused_is_named(stage: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RejectedError) as raised:
        check_limits(config({"image": "debian:12"}, stage), OURS)
    assert str(raised.value).startswith(complaint)
