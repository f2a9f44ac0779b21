"""Which tests run side by side, when there are several workers (scripts/test): files, each with its own fixtures.

All that needs a container engine is one piece, for one worker: two engines rewrite each other's packet filter, and what
an engine has kept can only be told where nothing else uses it. What takes long comes first.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

ENGINE = (
    "tests/compose/",
    "tests/e2e/",
    "tests/faults/test_real_containers.py",
    "tests/grader/test_cgroups.py",
    "tests/grader/test_containers_contract.py",
    "tests/grader/test_oci.py",
    "tests/grader/test_start.py",
    "tests/hostile/",
    "tests/local/test_engine.py",
    "tests/test_up.py",
)
LONG = ("tests/faults/", "tests/hosts/", "tests/cluster/", "tests/rabbit/", "tests/local/", "tests/compat/")


def path_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def needs_engine(path: str) -> bool:
    return path.startswith(ENGINE)


def rank(path: str) -> int:
    """The lower, the earlier."""
    order = (ENGINE, *LONG)
    return next((number for number, start in enumerate(order) if path.startswith(start)), len(order))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole files to workers, and all that needs an engine to one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "engine" if needs_engine(path) else path
