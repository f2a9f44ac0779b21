"""Prometheus with the config and the rules of deploy/, beside a deployment of a test or a benchmark."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from ruamel.yaml import YAML

FILES = Path(__file__).parents[1] / "deploy" / "prometheus"


def configure(directory: Path, *, api: int, grader: int, token: str, is_quick: bool) -> Path:
    """Write the config and the rules for the ports of two programs, with intervals of a second if ``is_quick``."""
    yaml = YAML(typ="safe", pure=True)
    config, rules = yaml.load(FILES / "prometheus.yml"), yaml.load(FILES / "broadway.rules.yml")
    programs, of_api = config["scrape_configs"]
    programs["static_configs"] = [{"targets": [f"127.0.0.1:{grader}"], "labels": {"service": "grader"}}]
    of_api |= {"scheme": "http", "static_configs": [{"targets": [f"127.0.0.1:{api}"]}]}
    if is_quick:
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for rule in (rule for group in rules["groups"] for rule in group["rules"]):
            rule["for"] = "1s"
    (directory / "broadway-metrics-token").write_text(token)
    (directory / "broadway.rules.yml").write_text(json.dumps(rules))
    (directory / "prometheus.yml").write_text(json.dumps(config))
    return directory / "prometheus.yml"


def command(config: Path, *, port: int) -> tuple[str, ...]:
    """Return the command of a Prometheus that keeps its data beside its config."""
    data = config.with_name("tsdb")
    return (
        "prometheus",
        f"--config.file={config}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={data}",
    )


@dataclass(frozen=True)
class Prometheus:
    """The API of a Prometheus."""

    http: httpx2.AsyncClient

    async def are_up(self, targets: int) -> bool:
        """Return whether it is ready and reaches this number of our programs."""
        try:
            if (await self.http.get("/-/ready")).is_error:
                return False
        except httpx2.TransportError:
            return False
        return len(await self.query('up{job=~"broadway.*"} == 1')) == targets

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression's present value."""
        answer = await self.http.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == httpx2.codes.OK, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    async def firing(self, alert: str) -> list[dict[str, Any]]:
        alerts = (await self.http.get("/api/v1/alerts")).json()["data"]["alerts"]
        return [each for each in alerts if each["labels"]["alertname"] == alert and each["state"] == "firing"]
