"""Limits that an operator sets for courses."""

from typing import Any

import pytest

from broadway.domain.assignment import AssignmentConfig, memory_bytes
from broadway.ingest.commands.limits import Limits, RejectedError, allowed, check_limits

OURS = Limits(max_job_seconds=100, images=("registry.example/cs*/*", "debian:?*"), max_memory="4g")


def config(*stages: dict[str, Any], **more: Any) -> AssignmentConfig:
    return AssignmentConfig.model_validate({"student_pipeline": list(stages), **more})


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1", 1), ("512b", 512), ("2k", 2048), ("2Kb", 2048), ("1.5m", 1572864), ("4G", 2**32), ("1tb", 2**40)],
)
def test_memory_has_the_engines_format(text: str, bytes_: int) -> None:
    assert memory_bytes(text) == bytes_


def test_a_config_within_the_limits_is_accepted() -> None:
    check_limits(
        config({"image": "registry.example/cs241/mp1:3", "memory": "4096m", "timeout": 100}), OURS, course="cs1"
    )
    check_limits(config({"image": "debian:12"}), OURS, course="cs1")
    check_limits(config({"image": "anything"}), Limits(max_job_seconds=100), course="cs1")


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        ({"image": "evil/miner"}, "student_pipeline.1.image: evil/miner is none of the images that this server allows"),
        ({"image": "xregistry.example/cs1/a"}, "student_pipeline.1.image: "),
        ({"image": "DEBIAN:12"}, "student_pipeline.1.image: "),
        ({"image": "debian:12", "memory": "4097m"}, "student_pipeline.1.memory: 4097m is more than"),
        ({"image": "debian:12", "memory": "9" * 400}, "student_pipeline.1.memory: 999"),
        ({"image": "debian:12", "memory": "2000000t"}, "student_pipeline.1.memory: 2000000t is more than any"),
        ({"image": "debian:12", "hostname": "h" * 65}, "student_pipeline.1.hostname: has 65 characters, 64 are"),
        ({"image": "debian:12", "privileged": True}, "student_pipeline.1.privileged: "),
        ({"image": "debian:12", "timeout": 100}, "student_pipeline: its stages may run 130 s together"),
    ],
)
def test_the_error_names_the_refused_value(stage: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RejectedError) as raised:
        check_limits(config({"image": "debian:12"}, stage), OURS, course="cs1")
    assert str(raised.value).startswith(complaint)


def complaint(stage: dict[str, Any], limits: Limits, course: str = "cs1") -> str | None:
    """Return the error for a stage, or None if it is allowed."""
    try:
        check_limits(config(stage), limits, course=course)
    except RejectedError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("course", "patterns", "told"),
    [
        ("cs241", ("cs241", "ece*"), None),
        ("ece391", ("cs241", "ece*"), None),
        ("anything", ("*",), None),
        ("cs2410", ("cs241", "ece*"), "privileged containers are not allowed for cs2410 on this server"),
        ("cs241", (), "privileged containers are not allowed on this server"),
    ],
)
def test_only_the_operators_courses_have_privileges(course: str, patterns: tuple[str, ...], told: str | None) -> None:
    limits = Limits(max_job_seconds=100, privileged_courses=patterns)
    error = complaint({"image": "a", "privileged": True}, limits, course)
    assert error == (told and f"student_pipeline.0.privileged: {told}")


@pytest.mark.parametrize(
    ("stage", "is_allowed"),
    [({}, False), ({"networking": True}, False), ({"networking": False}, True), ({"untrusted": True}, True)],
)
def test_a_server_can_forbid_networks(stage: dict[str, Any], is_allowed: bool) -> None:
    error = complaint({"image": "a"} | stage, Limits(max_job_seconds=100, allow_network=False))
    expected = 'student_pipeline.0.networking: no stage has a network on this server; write "networking": false'
    assert error == (None if is_allowed else expected)


@pytest.mark.parametrize("name", ["", "=", "A=B", "A\0"])
def test_names_that_no_environment_can_hold_are_refused(name: str) -> None:
    error = complaint({"image": "a", "env": {name: 1}}, Limits(max_job_seconds=100))
    assert error
    assert error.startswith(f"student_pipeline.0.env: {name!r} cannot name a variable")


@pytest.mark.parametrize("name", ["A", "a.b-c", "ü", " ", "LD_PRELOAD"])
def test_names_that_clients_of_the_original_may_use_are_accepted(name: str) -> None:
    assert complaint({"image": "a", "env": {name: 1}}, Limits(max_job_seconds=100)) is None


@pytest.mark.parametrize(("most", "given"), [("1g", ["1g", "64m"]), ("2g", [None, "64m"]), (None, [None, "64m"])])
def test_the_default_memory_is_never_above_the_limit(most: str | None, given: list[str | None]) -> None:
    posted = config({"image": "a"}, {"image": "a", "memory": "64m"}).as_posted()
    limits = Limits(max_job_seconds=100, max_memory=most)

    effective = allowed(posted, limits, course="cs1")

    assert [stage.get("memory") for stage in effective["student_pipeline"]] == given
    assert posted["student_pipeline"] == [{"image": "a"}, {"image": "a", "memory": "64m"}], "it is as it was"


def test_the_memory_of_a_kind_stays_below_a_limit_that_allows_it() -> None:
    posted = config({"image": "a", "kind": "gradescope"}).as_posted()
    memory = {
        most: allowed(posted, Limits(max_job_seconds=700, max_memory=most), course="cs1")["student_pipeline"][0].get(
            "memory"
        )
        for most in ("1g", "512m")
    }
    assert memory == {"1g": None, "512m": "512m"}


@pytest.mark.parametrize("cpus", ["", "0", "0-3", "0-3,7", "1,2-2"])
def test_cpus_have_the_engines_format(cpus: str) -> None:
    assert complaint({"image": "a", "cpuset_cpus": cpus}, Limits(max_job_seconds=100)) is None
