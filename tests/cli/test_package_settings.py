"""The settings of package managers that a build gets: which count, and the script in a real shell."""

import subprocess
from pathlib import Path

import pytest

from broadway.cli import package_settings
from broadway.cli.package_settings import PackageSettings

AUTHORITIES = "-----BEGIN CERTIFICATE-----\n'quoted' $HOME\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    files = {
        "ca.pem": AUTHORITIES,
        "home/.config/pip/pip.conf": "[global]\nindex-url = https://own.example/simple\nfind-links = /opt/wheels\n",
        "etc/pip.conf": "[global]\nindex-url = https://all.example/simple\ncert = /etc/ca.pem\ntimeout = 9\n",
        "etc/apt/apt.conf.d/80proxy": 'Acquire::http::Proxy "http://proxy.example:3142";\nDPkg::Post-Invoke {"id";};\n',
        "etc/apt/sources.list": "deb http://mirror.example/debian bookworm main\n",
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def settings(host: Path, **environ: str) -> PackageSettings:
    given = {"SSL_CERT_FILE": str(host / "ca.pem"), **environ}
    return PackageSettings.of_host(given, root=host, home=host / "home")


def test_only_settings_of_packages_that_mean_the_same_in_a_container_count(host: Path) -> None:
    found = settings(
        host,
        https_proxy="http://proxy.example",
        PIP_INDEX_URL="https://it's.example",
        PIP_FIND_LINKS="/opt/wheels",
        PIP_TARGET="x",
        AWS_SECRET_ACCESS_KEY="no",
        PATH="/bin",
    )
    own = {"https_proxy", "PIP_INDEX_URL"}
    assert {name for name, value in found.variables.items() if not value.startswith(package_settings.IN_MEMORY)} == own


def test_the_script_puts_the_settings_in_force(host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "memory"
    monkeypatch.setattr(package_settings, "IN_MEMORY", str(memory))
    found = settings(host, PIP_INDEX_URL="https://it's.example")
    shown = 'printf "%s\\n" "$PIP_INDEX_URL" && cat "$PIP_CONFIG_FILE" "$PIP_CERT" "$APT_CONFIG"'

    done = subprocess.run(
        ["sh", "-s"], input=found.script() + shown, capture_output=True, text=True, check=True, env={"PATH": "/bin"}
    )

    assert done.stderr == ""
    assert done.stdout.startswith("https://it's.example\n[global]\n")
    assert "index-url = https://own.example/simple" in done.stdout
    assert f"cert = {memory}/authorities.pem" in done.stdout
    assert "find-links" not in done.stdout
    assert AUTHORITIES in done.stdout
    assert 'Acquire::http::Proxy "http://proxy.example:3142";' in done.stdout
    assert "Post-Invoke" not in done.stdout
    assert (memory / "sources.d" / "sources.list").read_text().startswith("deb http://mirror.example")


def test_sources_of_apt_count_for_images_of_the_same_distribution(host: Path) -> None:
    assert "'debian 12'" in settings(host).script()
    (host / "etc/os-release").write_text("ID=arch\n")
    assert "SourceParts" not in settings(host).script()


def test_a_host_without_settings_changes_nothing(tmp_path: Path) -> None:
    found = PackageSettings.of_host({"PATH": "/bin"}, root=tmp_path, home=tmp_path)
    assert (found.variables.keys(), found.files, found.sources) == ({"APT_CONFIG"}, {"apt.conf": ""}, {})
