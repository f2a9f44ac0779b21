"""Missing parts of Broadway: the extra that brings them, and the command that installs it.

The wheel's extras bring the libraries of a part: a grader needs no database driver, and a client neither.
"""

import contextlib
import json
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

NAME = "broadway-grading"  # of the distribution, as in pyproject.toml
LOCAL = "local"

# Packages and modules, with the extra that brings their libraries; the first one that an import leads through decides.
_EXTRAS = {
    "broadway.runtime.tracing": "otel",
    "broadway.grader": "grader",
    "broadway.cli.dry_runs": "grader",
    "broadway.local.dry_run": "grader",
    "broadway.local": LOCAL,
    "broadway.cli.up": LOCAL,
    "broadway.ingest.openid": "oidc",
    "broadway.client": "client",
    "broadway.clients": "client",
    "broadway.session": "client",
    "broadway.submissions_client": "client",
    "broadway.runtime.http_errors": "client",
}
_ELSE = "server"
# A requirement of an extra for every version of Python, such as `httpx2>=2.16; extra == 'client'`.
_REQUIRED = re.compile(r"(?P<library>[\w.-]+)[^;]*; extra == .(?P<extra>[\w-]+).$")
_OURS = "broadway"


def explain(error: ModuleNotFoundError) -> str | None:
    """Return a sentence on the missing library with the command that installs it; None if the module is our own."""
    library = (error.name or "").partition(".")[0]
    if not library or library == _OURS:
        return None
    extra = _extra_of(error.__traceback__)
    return f"the Python package {library} is missing, which the extra {extra!r} brings: {advice(extra)}"


def advice(extra: str) -> str:
    """Return the command that installs Broadway again, with an extra, by the tool that made this environment.

    It names the extras that are here, too: the environment is made again from the latest command.
    """
    home, origin = Path(sys.prefix), _origin()
    source = f" @ {origin['url']}" if origin else ""
    wanted = f"'{NAME}[{','.join(_with_others(extra))}]{source}'"
    if (home / "uv-receipt.toml").exists():
        return f"uv tool install --force {wanted}"
    if (home / "pipx_metadata.json").exists():
        return f"pipx install --force {wanted}"
    if origin.get("dir_info", {}).get("editable"):
        return f"scripts/bootstrap {'grader' if extra == 'grader' else 'run'}"
    return f"{sys.executable} -m pip install {wanted}"


def _with_others(extra: str) -> list[str]:
    """Return an extra and those whose libraries are all here, without those that others of them bring."""
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415 - only for advice

    libraries: dict[str, set[str]] = {extra: set()}
    with contextlib.suppress(PackageNotFoundError):
        for found in filter(None, map(_REQUIRED.match, requires(NAME) or ())):
            libraries.setdefault(found["extra"], set()).add(found["library"])
    named = {extra} | {name for name, needed in libraries.items() if needed and all(map(_is_here, needed))}
    return sorted(name for name in named if not any(libraries[name] < libraries[other] for other in named))


def _is_here(library: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - only for advice

    try:
        distribution(library)
    except PackageNotFoundError:
        return False
    return True


def _origin() -> dict[str, Any]:
    """Return the address that this installation came from, such as that of a wheel; empty for a package index."""
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - only for advice

    try:
        record = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    return dict(json.loads(record)) if record else {}


def _extra_of(trace: TracebackType | None) -> str:
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        for owner, extra in _EXTRAS.items():
            if module == owner or module.startswith(f"{owner}."):
                return extra
        trace = trace.tb_next
    return _ELSE
