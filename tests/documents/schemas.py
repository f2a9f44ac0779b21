"""Validates JSON, YAML and Python blocks of documents against their schemas."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from documents.reading import ROOT
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from sybil import Example

from broadway.domain.assignment import AssignmentConfig, Stage
from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.course import CourseConfigError, read_courses
from broadway.domain.json_bodies import InvalidBodyError, parse
from broadway.domain.roster import Roster
from broadway.domain.webhook import GitHubPush, HookConfig, JsonSubmission
from broadway.ingest.commands.start import RunOrder
from broadway.settings.loading import load
from broadway.settings.programs import PROGRAMS

Check = Callable[[str], str | None]


def body_of(expected: type[BaseModel]) -> Check:
    """Return a check of a request's body, which reads it as the API does."""

    def check(text: str) -> str | None:
        try:
            parse(text.encode(), expected)
        except InvalidBodyError as error:
            return f"{expected.__name__}: {error}"
        return None

    return check


def courses(text: str) -> str | None:
    """Check a course config."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "courses.json"
        path.write_text(text)
        try:
            read_courses(path)
        except CourseConfigError as error:
            return str(error)
    return None


def assignment_file(text: str) -> str | None:
    """Check the file of an assignment: its pipelines, and its settings below a key of their own."""
    pipelines = json.loads(text)
    own = pipelines.pop("settings")
    return body_of(AssignmentConfig)(json.dumps(pipelines)) or body_of(AssignmentSettings)(json.dumps(own))


def settings(text: str) -> str | None:
    """Check a config file: one of the programs must accept it."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "config.json"
        path.write_text(text)
        refusals = [_refusal(program, path) for program in PROGRAMS]
    return None if None in refusals else "\n".join(filter(None, refusals))


def _refusal(program: str, path: Path) -> str | None:
    needed = ["token", "grader"] if program == "grader" else []
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            load(PROGRAMS[program], prog=program, arguments=[*needed, str(path)])
        except SystemExit:
            return errors.getvalue()
    return None


# The check for a document with these keys. The first match counts.
SHOWN: Mapping[frozenset[str], Check] = {
    frozenset({"student_pipeline", "settings"}): assignment_file,
    frozenset({"student_pipeline"}): body_of(AssignmentConfig),
    frozenset({"image"}): body_of(Stage),
    frozenset({"students_env"}): body_of(RunOrder),
    frozenset({"students"}): body_of(RunOrder),
    frozenset({"entries"}): body_of(Roster),
    frozenset({"assignment", "secrets"}): body_of(HookConfig),
    frozenset({"repository", "ref"}): body_of(GitHubPush),
    frozenset({"idempotency_key"}): body_of(JsonSubmission),
    frozenset({"mongodb"}): settings,
    frozenset({"amqp_url"}): settings,
    frozenset({"api_host"}): settings,
}


def is_course(value: Any) -> bool:
    return isinstance(value, dict) and "tokens" in value


def wrong_json(text: str) -> str | None:
    """Return the reason why a text is not JSON, or does not fit its schema."""
    try:
        document = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    if not isinstance(document, dict):
        return "no check is known for this JSON: add one to SHOWN"
    if document and all(map(is_course, document.values())):
        return courses(text)
    check = next((check for keys, check in SHOWN.items() if keys <= document.keys()), None)
    return check(text) if check else f"no check is known for JSON with {sorted(document)}: add one to SHOWN"


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid")


Target = Annotated[str, Field(pattern=r"^[a-z0-9.-]+:[0-9]+$")]


class _Targets(_Exact):
    targets: list[Target]


class _Names(_Exact):
    names: list[str]
    type: Literal["A"]
    port: int


class _Authorization(_Exact):
    credentials_file: str


class _Scrape(_Exact):
    job_name: str
    authorization: _Authorization | None = None
    static_configs: list[_Targets] = []
    dns_sd_configs: list[_Names] = []


class _Prometheus(_Exact):
    scrape_configs: list[_Scrape]


def prometheus(text: str) -> str | None:
    """Check the part of Prometheus's configuration that documents show."""
    try:
        TypeAdapter(_Prometheus).validate_python(YAML(typ="safe", pure=True).load(text))
    except ValidationError as error:
        return str(error)
    return None


def compose(text: str) -> str | None:
    """Check a Compose file that extends ours: it must be valid, and its services must be in ours."""
    shown = YAML(typ="safe", pure=True).load(text)["services"]
    ours = YAML(typ="safe", pure=True).load((ROOT / "compose" / "compose.yaml").read_text())["services"]
    if unknown := shown.keys() - ours.keys():
        return f"compose.yaml has no service {', '.join(sorted(unknown))}"
    with TemporaryDirectory() as directory:
        path = Path(directory) / "compose.yaml"
        path.write_text(text)
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode else None


def wrong_yaml(text: str) -> str | None:
    """Return the reason why a text is not YAML, or does not fit its schema."""
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        return f"no YAML: {error}"
    match document:
        case {"scrape_configs": _}:
            return prometheus(text)
        case {"services": _}:
            return compose(text)
    return "no check is known for this YAML"


def wrong_python(text: str) -> str | None:
    """Return the error that a block of Python raises, if any."""
    try:
        exec(compile(text, "<block>", "exec"), {"__name__": "block"})  # noqa: S102 - the project's own documents
    except Exception as error:  # noqa: BLE001 - every error is reported
        return f"{type(error).__name__}: {error}"
    return None


def evaluator(check: Check) -> Callable[[Example], str | None]:
    """Return a check as an evaluator of blocks."""
    return lambda example: check(example.parsed)
