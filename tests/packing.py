"""The distribution of tests to several workers (scripts/test): by file, each with its own fixtures.

All tests that need a container engine go to one worker: two engines rewrite each other's packet filter, and the
contents of an engine can only be checked while nothing else uses it. Some other files share a worker, too. Long tests
come first.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

ENGINE = (
    "tests/browser/test_new_user.py",
    "tests/compose/",
    "tests/deploy/test_units.py",
    "tests/deploy/test_up_unit.py",
    "tests/e2e/",
    "tests/faults/test_real_containers.py",
    "tests/grader/docker/test_network.py",
    "tests/grader/test_autograders.py",
    "tests/grader/test_cgroups.py",
    "tests/grader/test_containers_contract.py",
    "tests/grader/test_dry_runs.py",
    "tests/grader/test_not_started.py",
    "tests/grader/test_oci.py",
    "tests/grader/test_start.py",
    "tests/hostile/",
    "tests/local/test_engine.py",
    "tests/test_up.py",
)
# Files whose tests share what only they need: an API, servers that they strike, stores with a recording's documents.
TOGETHER = (
    tuple(
        f"tests/compat/test_{name}.py"
        for name in (
            *("authorization", "client_endpoints", "envelopes", "environment"),
            *("polling_workers", "queue", "run_states", "streams", "websocket_workers"),
        )
    ),
    ("tests/faults/test_chaos.py", "tests/faults/test_parts_away.py"),
    ("tests/recordings/test_documents.py", "tests/recordings/test_grade_documents.py"),
)
LONG = ("tests/faults/", "tests/hosts/", "tests/cluster/", "tests/rabbit/", "tests/local/", "tests/compat/")


def path_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def needs_engine(path: str) -> bool:
    return path.startswith(ENGINE)


def rank(path: str) -> int:
    """Return a file's rank; lower ranks run earlier."""
    order = (ENGINE, *LONG)
    return next((number for number, start in enumerate(order) if path.startswith(start)), len(order))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole files to workers, and files that need the same servers to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if needs_engine(path):
            return "engine"
        return next((" ".join(files) for files in TOGETHER if path in files), path)
