"""The settings of images without an engine."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from broadway.grader.runtimes import connect
from broadway.settings.grader import GraderSettings
from broadway.settings.images import ImageSettings


@pytest.mark.parametrize(
    "source", ["engine", "docker-daemon:", "registry", "oci:/a", "oci-archive:a.tar", "docker-archive:/a b"]
)
def test_places(source: str) -> None:
    assert ImageSettings(source=source).source == source


@pytest.mark.parametrize("source", ["", "oci:", "docker://x", "dir:/a", "oci:/a:b", "oci-archive:a\0", "engine:"])
def test_other_places_are_refused(source: str) -> None:
    with pytest.raises(ValidationError, match="source"):
        ImageSettings(source=source)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"username": "u"}, "set all three"),
        ({"registry": "r", "username": "u"}, "set all three"),
        ({"registry": "r", "password_file": "/p"}, "set all three"),
        ({"registry": "r", "username": "u", "password_file": "/p", "auth_file": "/a"}, "exclude each other"),
        ({"registry": "r/path"}, "registry"),
        ({"username": "a:b"}, "username"),
        ({"plain_http": "a,,b"}, "plain_http"),
        ({"max_files": 1}, "max_files"),
        ({"pull_timeout": 0}, "pull_timeout"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, str], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ImageSettings.model_validate(given)


async def test_a_grader_connects_with_them_and_without_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    images = {"source": "registry", "dir": tmp_path / "library", "keep_size": "1g"}
    settings = GraderSettings(
        token="t", grader_id="g", work_dir=tmp_path, runtime="oci", images=ImageSettings.model_validate(images)
    )
    async with connect(settings) as containers:
        await containers.ping()
        assert (tmp_path / "library" / "layers").is_dir()
