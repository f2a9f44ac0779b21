"""The checks of documents find mistakes: each is tested on a small document."""

from collections.abc import Callable
from pathlib import Path

import pytest
from documents.checks import OF_DATA
from documents.inline import unknown_commands
from documents.links import dead_links, missing_names, missing_paths
from documents.reading import failures
from documents.schemas import wrong_json, wrong_python, wrong_yaml
from documents.shell import Shell, run_script, run_session, typed

from broadway import __version__

Write = Callable[[str], Path]

LINES = {
    "broadway run shwo 1": "No such command 'shwo'",
    "broadway up --grader 2": "No such option: --grader",
    "broadway run show 1 --course c --token t --server http://127.0.0.1:1": "127.0.0.1:1",
    "python -m broadway.grader token host7 --slotz 2": "unrecognized arguments: --slotz",
    "python -m broadway.graders token host7": "no program broadway.graders",
    "python scripts/lack.py": "no file scripts/lack.py",
    "make demos": "No rule to make target 'demos'",
    "curl -sS http://127.0.0.1:1/readyz": "Failed to connect",
    "docker compose -f compose/compose.yaml up --detach-all": "not in the table",
    "docker compose -f compose/compose.yaml restart ingests": "has no service ingests",
    "docker compose -f compose/compose.yaml run --rm cli grader lst": "No such command 'lst'",
    "docker build -f Dockerfile -t broadway .": "no file Dockerfile",
    "systemctl enable --now broadway-graders@host7": "no unit broadway-graders@.service",
    "sudo apt-get install nothing-of-ours": "scripts/bootstrap names no nothing-of-ours",
    "unshare --uts sh -c 'exec ../.venv/bin/python -m recording x'": "tests has no program recording",
    "scripts/bootstrap nothing": "does not name the argument nothing",
    "broadway dispatcher --slots 2": "unrecognized arguments: --slots",
    'uv tool install "dist/broadway_grading-0.0.1-py3-none-any.whl[grader]"': "0.0.1",
    "kubectl apply -f deploy/kubernetes/graderz.yaml": "no file deploy/kubernetes/graderz.yaml",
    "kubectl -n broadway rollout status deployment/broadway-ingestion": "names no such object",
    "kubectl -n broadways get deployment/broadway-ingest": "has no namespace broadways",
    "unheard-of --option": "unheard-of: command not found",
    "cat docs/no-such-file.json": "No such file or directory",
    'echo "$unset"': "unset: unbound variable",
    "false | cat": "exit status 1",
}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell without a deployment."""
    return Shell.open(tmp_path_factory.mktemp("documents") / "checkout", {}, {})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes the only document of a repository."""

    def write(text: str) -> Path:
        path = tmp_path / "document.md"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("line", LINES)
def test_a_command_that_does_not_run_is_found(write: Write, offline: Shell, line: str) -> None:
    path = write(f"Text.\n\n```console\n$ {line}\n```\n")

    (failure,) = failures(path, {"console": run_session}, shell=offline)

    assert failure.startswith("document.md:3: exit status ")
    assert LINES[line] in failure


@pytest.mark.parametrize(
    "line",
    [
        "broadway up --graders 2 --course-config docs/examples/courses.json",
        "python -m broadway.grader token host7 --slots 2",
        "python -m pytest tests/domain",
        "make demo",
        "docker compose -f compose/compose.yaml up -d --scale results=2",
        "systemctl enable --now broadway-grader@host7",
        "scripts/bootstrap grader",
        "broadway dispatcher --reconcile-interval 2",
        "BROADWAY_TOKEN=secret BROADWAY_GRADER_ID=host7 broadway grader --slots 2",
        f'pipx install "dist/broadway_grading-{__version__}-py3-none-any.whl[grader]"',
        "git clone https://git.example.org/broadway.git; cd broadway",
        "install -D -m 600 /dev/stdin /etc/broadway/token <<< secret; cat /etc/broadway/token",
    ],
)
def test_a_valid_command_passes(write: Write, offline: Shell, line: str) -> None:
    offline.restart()
    assert failures(write(f"```sh\n{line}\n```\n"), {"sh": run_script}, shell=offline) == []
    assert not Path("/etc/broadway/token").exists()


def test_the_blocks_of_a_document_are_one_session(write: Write, offline: Shell) -> None:
    offline.restart()
    path = write("```sh\na=1; cd docs\n```\n\n- In a list:\n\n  ```console\n  $ test $a$PWD = 1$HOME/docs\n  ```\n")

    assert failures(path, {"sh": run_script, "console": run_session}, shell=offline) == []


def test_typed_lines_of_a_session_are_run_and_output_is_not() -> None:
    session = "$ broadway run show \\\n    1\njob  outcome\n$ cat <<END\n> text\n> END\ntext\n"

    assert typed(session) == "broadway run show \\\n    1\ncat <<END\ntext\nEND"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("```json\n{]\n```\n", "no JSON"),
        ('```json\n{"cs101": {"tokens": "change-me"}}\n```\n', "tokens"),
        ('```json\n{"student_pipeline": [{"image": "x", "time": 3}]}\n```\n', "time"),
        ('```json\n{"something": "else"}\n```\n', "no check is known for JSON with ['something']"),
        ("```yaml\nscrape_configs:\n  - job: broadway\n```\n", "job_name"),
        ("```yaml\nservices: {ingests: {}}\n```\n", "has no service ingests"),
        ("```yaml\na: [\n```\n", "no YAML"),
        ("```python\ndef f(:\n```\n", "SyntaxError"),
        ("```text\n$ broadway run show 1\n```\n", "a command in a block of text"),
        ("```\nanything\n```\n", "no check is known for blocks of ''"),
    ],
)
def test_a_block_that_does_not_fit_its_schema_is_found(write: Write, block: str, reason: str) -> None:
    (failure,) = failures(write(block), OF_DATA)

    assert failure.startswith("document.md:1: ")
    assert reason in failure


GOOD = {
    wrong_json: [
        '{"cs101": {"tokens": ["t"], "weight": 2.0}}',
        '{"student_pipeline": [{"image": "x"}]}',
        '{"students_env": [{"STUDENT_ID": "ada"}]}',
        '{"idempotency_key": "upload-1", "student": "ada"}',
        '{"mongodb": {"dsn": "mongodb://store.example.org"}}',
        '{"assignment": "mp1", "secrets": ["0123456789abcdef0123456789abcdef"], "format": "github"}',
    ],
    wrong_yaml: [
        "scrape_configs: [{job_name: broadway, static_configs: [{targets: ['api.example.org:1470']}]}]",
        "services: {ingest: {environment: {BROADWAY_TOKEN: x}}}",
    ],
    wrong_python: ["def evaluate(text: str) -> int: ..."],
}


@pytest.mark.parametrize(("check", "text"), [(check, text) for check, texts in GOOD.items() for text in texts])
def test_a_valid_block_passes(check: Callable[[str], str | None], text: str) -> None:
    assert check(text) is None


@pytest.mark.parametrize(
    "link",
    [
        "[a](missing.md)",
        "[a](#no-such-heading)",
        "[a](document.md#no-such-heading)",
        "[a](code.py#L1)",
        "[a](../outside.md)",
        "[a](ftp://example.org/)",
        "[a][b]\n\n[b]: missing.md",
        "![a](missing.png)",
        '<img src="missing.png">',
        "| a |\n| - |\n| [a](missing.md) |",
    ],
)
def test_a_dead_link_is_found(write: Write, link: str) -> None:
    path = write(f"# A heading\n\n{link}\n")
    path.with_name("code.py").touch()

    (problem,) = dead_links(path, path.parent)

    assert problem.startswith("document.md:")


def test_valid_links_pass(write: Write) -> None:
    path = write(
        "# The `broadway` command, and more\n\n# Twice\n\n# Twice\n\n"
        "[a](#the-broadway-command-and-more) [a](#twice-1) [a](document.md#twice) [a](code.py) [a](.)\n"
        "[a](https://example.org/#x) `[a](code)`\n\n```text\n[a](missing.md)\n```\n"
    )
    path.with_name("code.py").touch()

    assert dead_links(path, path.parent) == []


def test_a_command_in_running_text_that_does_not_exist_is_found(write: Write) -> None:
    path = write(
        "`broadway run shwo RUN`, `broadway run show RUN --jsn`, `make demos`, `broadway grader pause|stop ID`\n\n"
        "| `broadway run show RUN [--json]` | `broadway grader pause|resume ID` | `broadway --version` |\n"
        "`broadway doctor grader TOKEN`, `broadway dead ...`, `broadway.jobs`, `make test CONTAINERS=1`\n"
    )

    problems = [problem.rpartition(": ")[2] for problem in unknown_commands(path)]

    assert problems == ["no command shwo", "no option --jsn", "no target demos", "no command stop"]


def test_a_path_in_code_that_does_not_exist_is_found(write: Write) -> None:
    path = write("`broadway/old.py`, `broadway/new.py`, `broadway/{new,newer}.py`, `broadway/`, `tests/*.py`, `a/b`\n")
    (path.parent / "broadway").mkdir()
    (path.parent / "broadway" / "new.py").touch()

    assert missing_paths(path, path.parent) == ["document.md:1: no broadway/old.py", "document.md:1: no tests/*.py"]


def test_a_name_that_the_code_does_not_define_is_found(write: Write) -> None:
    path = write(
        "[`code.py`](code.py) `Known.method`, [code](code.py)\n`function()`, [`code.py`](code.py) `LIMIT`,\n"
        "[`code.py`](code.py) `missing`, [`code.py`](code.py) `Known.missing`, [`code.py`](code.py) `function.inner`,\n"
        "[`code.py`](code.py) is not `related`, and [`code.py`](code.py) `--flag`\n"
    )
    code = "LIMIT: int = 3\nclass Known:\n    async def method(self): ...\ndef function():\n    def inner(): ...\n"
    path.with_name("code.py").write_text(code)

    problems = [problem.rpartition(" ")[2] for problem in missing_names(path)]

    assert problems == ["missing", "Known.missing", "function.inner"]
