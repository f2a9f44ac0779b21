"""The alert rules, the dashboard and the config of Prometheus in deploy/: valid, complete, and about our metrics."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
from ruamel.yaml import YAML

from broadway.cli.app import app
from broadway.runtime import metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
SAMPLES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""], "info": ["_info"]}


def read(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(PROMETHEUS / name)


RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in read("broadway.rules.yml")["groups"] for rule in group["rules"]
}
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in read("broadway.rules.test.yml")["tests"]}
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "broadway.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "broadway.rules.yml"),
        ("test", "rules", "broadway.rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_files(arguments: tuple[str, ...]) -> None:
    frugal = {**os.environ, "GOGC": "400", "GOMAXPROCS": "1"}  # a short run needs hardly any collection of garbage
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, env=frugal, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    fires, quiet = CASES[f"{alert} fires"], CASES[f"{alert} is quiet"]
    for case, is_firing in ((fires, True), (quiet, False)):
        (test,) = case["promql_expr_test"]
        assert test["expr"] == f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
        assert bool(test["exp_samples"]) is is_firing
    series = {name_of(each["series"]) for each in fires["input_series"]}
    assert series & {name_of(each["series"]) for each in quiet["input_series"]}, "about the same metrics"


def test_there_are_no_cases_of_other_alerts() -> None:
    assert len(CASES) == 2 * len(RULES)


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_says_what_to_do_and_where_to_read_on(alert: str) -> None:
    rule = RULES[alert]
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert not notes["summary"].endswith(".")
    assert notes["description"].endswith(".")
    document, _, anchor = notes["runbook"].partition("#")
    title, table = anchor.replace("-", " ").capitalize(), f"| `{alert}` | {rule['labels']['severity']} |"
    section = (ROOT / document).read_text().partition(f"### {title}\n")[2].partition("\n#")[0]
    assert table in section


def test_commands_in_the_texts_of_alerts_exist() -> None:
    texts = " ".join(note for rule in RULES.values() for note in rule["annotations"].values())
    named = set(re.findall(r"(?<![\w.-])broadway ([a-z]+)((?: [a-z-]+)?)", texts))
    assert {("dead", " retry"), ("doctor", "")} <= {(word, "" if word == "doctor" else more) for word, more in named}
    group = typer.main.get_command(app)
    for word, more in named:
        assert isinstance(group, click.Group) or hasattr(group, "get_command")
        command = group.get_command(click.Context(group), word)
        assert command is not None, word
        if hasattr(command, "get_command"):
            assert command.get_command(click.Context(command), more.strip()) is not None, word + more


def exported() -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each series of Broadway, with its labels."""
    for instrument in metrics.INSTRUMENTS:
        (family,) = instrument.describe()
        for suffix in SAMPLES[family.type]:
            yield family.name + suffix, {*instrument._labelnames, "le", "instance", "job"}  # noqa: SLF001 - nothing public has them


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES.values()), *QUERIES])
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    known = dict(exported())
    for name, matchers in re.findall(r"\b(broadway_\w+)(?:\{([^}]*)\})?", query):
        assert name in known
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) <= known[name], name


def test_the_panels_of_the_dashboard_have_distinct_titles_and_do_not_overlap() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(panel["description"] for panel in PANELS)


def name_of(series: str) -> str:
    return series.partition("{")[0]
