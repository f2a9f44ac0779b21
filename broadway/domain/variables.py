"""Variables of stages: their limits in Linux, and the names that not every source may set. Pure."""

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

MAX_VARIABLES = 1000  # of one environment
MAX_VARIABLE = 128 * 1024  # bytes of NAME=value with its final NUL: Linux's limit for one argument or variable
MAX_ENVIRONMENT = 1024 * 1024  # bytes; Linux allows 2 MiB for all arguments and variables of a program together

OWN_PREFIX = "BROADWAY_"
_OWN = frozenset({"GRADING_RUN_ID", "GRADING_JOB_ID"})

# Names by which a value changes the program that runs, or the code that it loads.
_PROTECTED = (
    *("PATH", "HOME", "IFS", "ENV", "SHELL", "SHELLOPTS", "PS4", "PROMPT_COMMAND", "TMPDIR", "HOSTALIASES"),
    *("LD_*", "DYLD_*", "GLIBC_*", "GCONV_*", "LOCPATH", "NLSPATH", "MALLOC_*", "BASH*", "ZDOTDIR", "FPATH", "CDPATH"),
    *("PYTHON*", "PERL5*", "PERLLIB", "RUBYOPT", "RUBYLIB", "GEM_*", "BUNDLE_*", "NODE_*", "NPM_*", "LUA_*", "PHPRC"),
    *("CLASSPATH", "JAVA_*", "_JAVA_*", "JDK_*", "MAVEN_*", "GRADLE_*", "CARGO_*", "RUSTC*", "RUSTFLAGS", "GOPATH"),
    *("GOROOT", "GOFLAGS", "GODEBUG", "DOTNET_*", "COMPLUS_*", "CORECLR_*", "R_HOME", "R_LIBS*", "R_PROFILE*"),
    *("GIT_*", "SSH_*", "GCC_*", "CPATH", "*_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "MAKEFLAGS", "MAKEFILES"),
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "*SAN_OPTIONS", "*_PROXY", "SSL_*", "CURL_*", "DOCKER_*"),
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SHOWN = 100  # characters of a name in a message


def is_reserved(name: str) -> bool:
    """Return whether only Broadway itself sets a variable."""
    return name in _OWN or name.startswith(OWN_PREFIX)


def is_protected(name: str) -> bool:
    """Return whether a variable changes how programs are found or started, such as PATH and LD_PRELOAD."""
    return any(fnmatchcase(name.upper(), pattern) for pattern in _PROTECTED)


def refused_name(name: str) -> str | None:
    """Return the reason why no delivery may set a variable, or None."""
    if not _NAME.fullmatch(name):
        return f"{name[:_SHOWN]!r}: expected letters, digits and underscores, 64 at most"
    if is_reserved(name):
        return f"{name}: only Broadway sets this variable"
    return (
        f"{name}: this variable changes how programs start, so no delivery may set it" if is_protected(name) else None
    )


def reserved_problem(env: Mapping[str, Any]) -> str | None:
    """Return the reason why only Broadway may set an environment, which names the variable, or None."""
    name = next(filter(is_reserved, env), None)
    return None if name is None else f"{name[:_SHOWN]}: only Broadway sets this variable"


def undelivered(
    delivered: Collection[str], *, allowed: Collection[str] | None, taken: Collection[str] = ()
) -> str | None:
    """Return the reason why a delivery may not set its variables, which names one of them, or None.

    Args:
        delivered: The names in the delivery.
        allowed: The names that its hook allows; None for a hook that is older than this list, which allows any name
            that neither Broadway nor the assignment nor the roster sets.
        taken: The names that the assignment and the roster set.
    """
    for name in delivered:
        if problem := refused_name(name):
            return f"env: {problem}"
        if allowed is not None and name not in allowed:
            return f"env: {name}: this hook lets deliveries set {', '.join(allowed) or 'no variables'} (its key `env`)"
        if allowed is None and name in taken:
            return f"env: {name}: the assignment or the roster sets it, and this hook has no list of variables (`env`)"
    return None


def env_problem(env: Mapping[str, Any]) -> str | None:
    """Return the reason why no program can have an environment, which names the variable, or None."""
    if len(env) > MAX_VARIABLES:
        return f"has {len(env)} variables, {MAX_VARIABLES} are allowed"
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            return f"{name[:_SHOWN]!r} cannot name a variable: expected no =, no NUL, and not nothing"
        if problem := _value_problem(name, value):
            return f"the variable {name[:_SHOWN]} {problem}"
    size = env_size(env)
    if size > MAX_ENVIRONMENT:
        largest = max(env, key=lambda name: _size(name, env[name]))
        return (
            f"the variables have {size} bytes together, {MAX_ENVIRONMENT} are allowed; "
            f"the largest, {largest[:_SHOWN]}, has {_size(largest, env[largest])}"
        )
    return None


def env_size(env: Mapping[str, Any]) -> int:
    """Return the bytes of an environment, as the kernel counts them."""
    return sum(_size(name, value) for name, value in env.items())


def _value_problem(name: str, value: Any) -> str | None:
    if isinstance(value, str) and "\0" in value:
        return "contains NUL, which no variable can"
    size = _size(name, value)
    if size > MAX_VARIABLE:
        return f"has {size} bytes as NAME=value, {MAX_VARIABLE} are allowed: Linux passes no longer one to a program"
    return None


def _size(name: str, value: Any) -> int:
    """Return the bytes of ``NAME=value`` with its final NUL."""
    text = value if isinstance(value, str) else str(value)
    return len(name.encode("utf-8", "surrogatepass")) + len(text.encode("utf-8", "surrogatepass")) + 2
