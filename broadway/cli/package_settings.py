"""This host's settings of package managers, for the build of an image, as a script for a shell.

The script keeps everything in a directory of memory, of which nothing becomes a part of an image.
"""

import configparser
import io
import re
import secrets
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

IN_MEMORY = "/dev/shm/broadway"  # noqa: S108 - in the container, where it is no part of the image

_VARIABLES = re.compile(
    r"(https?|ftp|all|no)_proxy|pip_\w+|uv_(default_)?index(_url)?|uv_extra_index_url|npm_config_registry|goproxy"
    r"|gosumdb|gonosumdb|goprivate|conda_channel_alias|cargo_registries_\w+|bundle_mirror__\w+",
    re.IGNORECASE,
)
_NOT_HERE = frozenset({"PIP_CONFIG_FILE", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CACHE_DIR", "PIP_PYTHON"})
_AUTHORITIES = (
    *("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
    "NPM_CONFIG_CAFILE",
)
_APT = re.compile(r"\s*(Acquire::(?:https?|ftp)::[^;{}]*Proxy[^;{}]*;|Acquire::(?:Retries|Check-Valid-Until)[^;{}]*;)")
_MAX_FILE = 4 * 1024 * 1024  # bytes of one setting


@dataclass(frozen=True, slots=True)
class PackageSettings:
    """Variables, and files by their names in the directory; ``release`` is the host's distribution and version.

    ``sources`` are the files with apt's sources, which count for an image of the same distribution.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    release: str = ""

    @classmethod
    def of_host(
        cls, environ: Mapping[str, str], *, root: Path = Path("/"), home: Path | None = None
    ) -> "PackageSettings":
        """Return the settings of this host, or of the one below ``root``."""
        variables = {name: value for name, value in environ.items() if _counts(name, value)}
        files = dict(_authorities(environ))
        variables |= {name: f"{IN_MEMORY}/authorities.pem" for name in _AUTHORITIES if files}
        if pip := _pip(environ, root, home or Path.home(), has_authorities=bool(files)):
            files["pip.conf"], variables["PIP_CONFIG_FILE"] = pip, f"{IN_MEMORY}/pip.conf"
        files["apt.conf"], variables["APT_CONFIG"] = _apt(root), f"{IN_MEMORY}/apt.conf"
        return cls(variables, files, dict(_sources(root)), _release(root))

    def script(self) -> str:
        """Return the commands that put the settings in force."""
        lines = [f"mkdir -p {IN_MEMORY}/sources.d"]
        lines += [_file(f"{IN_MEMORY}/{name}", text) for name, text in self.files.items()]
        lines += [_file(f"{IN_MEMORY}/sources.d/{name}", text) for name, text in self.sources.items()]
        if self.sources and self.release:
            places = f'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "{IN_MEMORY}/sources.d";\n'
            lines.append(
                f'if [ "$(. /etc/os-release 2>/dev/null; echo "$ID $VERSION_ID")" = {shlex.quote(self.release)} ]\n'
                f"then printf %s {shlex.quote(places)} >>{IN_MEMORY}/apt.conf\nfi"
            )
        lines += [f"export {name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return "\n".join(lines) + "\n"


def _counts(name: str, value: str) -> bool:
    """Return whether a variable means the same in a container: paths of this host do not."""
    is_known = _VARIABLES.fullmatch(name) is not None and name.upper() not in _NOT_HERE
    return is_known and not _is_local(value)


def _is_local(value: str) -> bool:
    return value.startswith(("/", "~", "file:"))


def _authorities(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the certificates that this host's programs are told to trust, as one file."""
    for name in _AUTHORITIES:
        if text := _text(Path(environ.get(name) or "/nonexistent")):
            yield "authorities.pem", text
            return


def _pip(environ: Mapping[str, str], root: Path, home: Path, *, has_authorities: bool) -> str:
    """Return pip's settings: those of the host, of the user and of the variable; a later file takes precedence."""
    merged = configparser.RawConfigParser(strict=False)
    own = environ.get("PIP_CONFIG_FILE")
    for path in (
        root / "etc/pip.conf",
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
        *([Path(own)] if own else []),
    ):
        try:
            merged.read_string(_text(path))
        except configparser.Error:
            continue
    for section in merged.sections():
        for key, value in merged.items(section):
            kept = " ".join(each for each in value.split() if not _is_local(each))
            if kept:
                merged.set(section, key, kept)
            elif key == "cert" and has_authorities:
                merged.set(section, key, f"{IN_MEMORY}/authorities.pem")
            else:
                merged.remove_option(section, key)
    written = io.StringIO()
    merged.write(written)
    return written.getvalue().strip()


def _apt(root: Path) -> str:
    """Return apt's proxies and the like."""
    files = [root / "etc/apt/apt.conf", *sorted((root / "etc/apt/apt.conf.d").glob("*"))]
    found = [each.group(1) for file in files for line in _text(file).splitlines() if (each := _APT.match(line))]
    return "".join(f"{line}\n" for line in found)


def _sources(root: Path) -> Iterator[tuple[str, str]]:
    places: Iterable[Path] = (root / "etc/apt/sources.list", *sorted((root / "etc/apt/sources.list.d").glob("*")))
    for path in places:
        if path.suffix in (".list", ".sources") and (text := _text(path)):
            yield path.name, text


def _release(root: Path) -> str:
    found = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', _text(root / "etc/os-release"), re.MULTILINE))
    return f"{found['ID']} {found['VERSION_ID']}" if len(found) == len(("ID", "VERSION_ID")) else ""


def _text(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        with path.open("rb") as content:
            return content.read(_MAX_FILE).decode("utf-8", "replace")
    except OSError:
        return ""


def _file(path: str, text: str) -> str:
    end = f"END-{secrets.token_hex(8)}"
    return f"cat >{shlex.quote(path)} <<'{end}'\n{text}\n{end}"
