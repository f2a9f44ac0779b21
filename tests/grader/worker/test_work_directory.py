"""The parts of a work directory that graders of several deployments may share."""

from pathlib import Path

import pytest

from broadway.grader.links.join import deployment_at
from broadway.grader.worker.work_directory import WorkDirectory, held
from broadway.service import SettingError


def test_one_process_holds_the_part_of_a_grader(tmp_path: Path) -> None:
    with held(tmp_path, "c1", "g1"):
        with pytest.raises(SettingError, match=f"grader g1 already runs on this host with --work-dir {tmp_path}"):
            held(tmp_path, "c1", "g1").__enter__()
        with held(tmp_path, "c1", "g2"), held(tmp_path, "c2", "g1"):
            pass
    with held(tmp_path, "c1", "g1"):
        pass


def test_deployments_and_links_have_spools_of_their_own(tmp_path: Path) -> None:
    works = [WorkDirectory(tmp_path, deployment, "g1") for deployment in ("d1", "d2")]
    spools = {work.spool(link, name) for work in works for link in ("amqp", "v1") for name in ("g1", "v1")}

    assert len(spools) == 8
    assert all(spool.is_dir() for spool in spools)


def test_outcomes_that_an_earlier_version_spooled_are_taken_over(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path, "d1", "g1", earlier=["d1", "api-1"])
    (tmp_path / "spool" / "g1").mkdir(parents=True)
    (tmp_path / "spool" / "v1" / "g1").mkdir(parents=True)
    (tmp_path / "spool" / "api-1" / "amqp" / "g1").mkdir(parents=True)
    (tmp_path / "spool" / "g1" / "a.1.1.json").write_text("a")
    (tmp_path / "spool" / "v1" / "g1" / "b.1.1.json").write_text("b")
    (tmp_path / "spool" / "api-1" / "amqp" / "g1" / "c.1.1.json").write_text("c")

    assert sorted(path.name for path in work.spool("amqp", "g1").iterdir()) == ["a.1.1.json", "c.1.1.json"]
    assert [path.name for path in work.spool("v1", "g1").iterdir()] == ["b.1.1.json"]
    assert len(list(work.spool("amqp", "g1").iterdir())) == 2


def test_spools_of_other_names_of_the_deployment_are_taken_over_beside_its_own(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path, "d1", "g1", earlier=["api-1", "broker-1"])
    for name in ("d1", "api-1", "broker-1"):
        (tmp_path / "spool" / name / "amqp" / "g1").mkdir(parents=True)
        (tmp_path / "spool" / name / "amqp" / "g1" / "outcomes.log").write_text(name)

    taken = sorted(path.read_text() for path in work.spool("amqp", "g1").glob("*.log"))
    assert taken == ["api-1", "broker-1", "d1"]


def test_a_process_directory_is_removed_at_the_end_unless_it_has_files(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path, "d1", "g1")
    with work.process_directory() as directory:
        assert directory.is_dir()
    assert not directory.exists()
    for _ in range(2):
        with work.process_directory() as again:
            (again / "e1").mkdir(exist_ok=True)
    assert (directory / "e1").is_dir()
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_a_deployment_without_an_id_is_named_after_its_address_and_not_its_login() -> None:
    assert deployment_at("amqp://a:b@h:5672/v") == deployment_at("amqp://c:d@h:5672/v")
    names = {deployment_at(f"{scheme}://h:1/{path}") for scheme in ("amqp", "http") for path in ("v", "w")}
    assert len(names) == 4
