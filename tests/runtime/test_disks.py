"""The disks of a program's directories are exported, also while one of them is missing."""

import math
import shutil
from pathlib import Path

import pytest
from scraping import Scrape

from broadway.runtime import disks, metrics
from broadway.settings.grader import GraderSettings
from broadway.settings.places import directories
from broadway.settings.sections import LogSettings


def exported() -> Scrape:
    return Scrape.of(metrics.exposition()[0].decode())


def test_a_disk_has_its_size_and_its_free_space(tmp_path: Path) -> None:
    disks.watch({"work_dir": tmp_path})

    usage, found = shutil.disk_usage(tmp_path), exported()
    assert found.total("broadway_disk_size_bytes", place="work_dir") == usage.total
    assert 0 < found.total("broadway_disk_free_bytes", place="work_dir") < usage.total


def test_a_missing_directory_does_not_keep_the_other_metrics_from_a_scrape(tmp_path: Path) -> None:
    disks.watch({"work_dir": tmp_path / "nowhere"})

    assert math.isnan(exported().total("broadway_disk_free_bytes", place="work_dir"))


@pytest.mark.parametrize("logs", ["", "logs"])
def test_the_places_of_a_program_are_its_directories_to_write_to(tmp_path: Path, logs: str) -> None:
    log = LogSettings(dir=str(tmp_path / logs) if logs else "")
    settings = GraderSettings.model_construct(grader_id="host7", work_dir=tmp_path, log=log)

    assert directories(settings) == {"work_dir": tmp_path} | ({"log_dir": tmp_path / logs} if logs else {})
