"""scripts/bootstrap installs for each set what that set needs."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def chosen(mode: str, directory: Path) -> tuple[set[str], str]:
    """Return the packages of the system and the file of requirements that a set stands for."""
    head = (ROOT / "scripts" / "bootstrap").read_text().partition("as_root() {")[0]
    script = directory / "scripts" / "bootstrap"
    script.parent.mkdir()
    script.write_text(head + 'printf "%s\\n" "${sets[0]}" "${needs[@]}"\n')
    done = subprocess.run(["bash", script, *filter(None, [mode])], capture_output=True, text=True, check=False)
    if done.returncode:
        return set(), done.stderr
    requirements, *needs = done.stdout.splitlines()
    return {need.split()[1] for need in needs}, requirements


def test_a_graders_host_gets_an_engine_and_no_broker(tmp_path: Path) -> None:
    packages, requirements = chosen("grader", tmp_path)

    assert {"docker.io", "crun", "runsc"} <= packages
    assert not {"rabbitmq-server", "chromium-headless-shell"} & packages
    pins = (ROOT / "requirements" / f"{requirements}.txt").read_text()
    assert "\ndocker==" in pins
    assert not {name for name in ("pymongo", "starlette", "secantusdb", "pytest") if f"\n{name}==" in pins}


@pytest.mark.parametrize(("mode", "requirements"), [("", "dev"), ("run", "runtime"), ("bench", "bench")])
def test_the_other_sets_have_a_broker(mode: str, requirements: str, tmp_path: Path) -> None:
    packages, found = chosen(mode, tmp_path)

    assert "rabbitmq-server" in packages
    assert ("chromium-headless-shell" in packages) is (mode != "run")
    assert found == requirements
    assert (ROOT / "requirements" / f"{found}.txt").exists()


def test_an_unknown_set_is_refused(tmp_path: Path) -> None:
    assert "no set graders" in chosen("graders", tmp_path)[1]
