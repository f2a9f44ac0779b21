"""TLS between all hosts, with certificates of a private authority; peers without a trusted certificate are refused."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import httpx2
import pytest
import trustme
from harness import PATIENCE, Client, Command, broadway, free_port, stage, until
from processes import CLUSTER_TOKEN, OPERATOR_TOKEN, QUICK_DISPATCHER, TESTS, Processes, processes
from yarl import URL

from broadway.local.broker import broker
from broadway.runtime.tls import trust

NODE = """[
  {{rabbit, [
    {{ssl_listeners, [{{"127.0.0.1", {port}}}]}},
    {{ssl_options, [{{cacertfile, "{ca}"}}, {{certfile, "{cert}"}}, {{keyfile, "{key}"}}]}}
  ]}}
].
"""


@dataclass(frozen=True)
class Authority:
    """An authority's own certificate, and one that it has issued for ``localhost``, as files."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def create(cls, directory: Path) -> "Authority":
        directory.mkdir(parents=True)
        made = cls(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        authority.cert_pem.write_to_path(str(made.ca))
        issued.cert_chain_pems[0].write_to_path(str(made.cert))
        issued.private_key_pem.write_to_path(str(made.key))
        return made


@dataclass(frozen=True)
class Site:
    """A control plane that speaks TLS only; ``stranger`` is another authority."""

    address: str
    amqps_url: str
    ours: Authority
    stranger: Authority
    control_plane: Processes
    hosts: Processes

    async def join(self, name: str, api: str, ca: Path) -> None:
        """Start a grader, with a fake runtime."""
        program = str(TESTS / "programs" / "host_grader.py")
        line = (sys.executable, program, CLUSTER_TOKEN, name, "--api-host", api, "--ca-file", str(ca), "--slots", "2")
        await self.hosts.start(name, *line, "--work-dir", str(self.hosts.directory / name))


@pytest.fixture(scope="module")
async def site(mongodb_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    ours, stranger = Authority.create(directory / "ours"), Authority.create(directory / "stranger")
    courses = directory / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    amqps, port, name = free_port(), free_port(), f"t{token_hex(4)}"
    home = directory / "broker"
    home.mkdir()
    (home / "advanced.config").write_text(NODE.format(port=amqps, ca=ours.ca, cert=ours.cert, key=ours.key))
    async with broker(home) as node:
        amqps_url = str(URL(node.amqp_url).with_scheme("amqps").with_host("localhost").with_port(amqps))
        environment = {
            "BROADWAY_AMQP_URL": amqps_url,
            "BROADWAY_MANAGEMENT_URL": node.administration,
            "BROADWAY_MONGODB_DSN": mongodb_dsn,
            "BROADWAY_MONGODB_PRIMARY": f"{name}_ag",
            "BROADWAY_MONGODB_LOGS": f"{name}_logs",
            "BROADWAY_LOG_DIR": "",
            "BROADWAY_TOKEN": CLUSTER_TOKEN,
            "BROADWAY_OPERATOR_TOKEN": OPERATOR_TOKEN,
        }
        async with (
            processes(directory / "api", environment) as control_plane,
            processes(directory / "hosts", {"BROADWAY_LOG_DIR": ""}) as hosts,
        ):
            await control_plane.service(
                "api",
                *("--bind-port", str(port), "--course-config", str(courses), "--ca-file", str(ours.ca)),
                *("--tls-cert", str(ours.cert), "--tls-key", str(ours.key)),
                *QUICK_DISPATCHER,
            )
            yield Site(f"https://localhost:{port}", amqps_url, ours, stranger, control_plane, hosts)
        os.kill(node.pid, signal.SIGKILL)  # its data are temporary, and it would take seconds to end


async def test_a_run_completes_over_tls_alone(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.address, timeout=PATIENCE, verify=trust(site.ours.ca)) as http:
        client = Client(http)
        await until(client.is_ready)
        await client.register("cs241", "mp1", students=[stage("sleep", "0.2")])
        await site.join("h1", site.address, site.ours.ca)
        await site.join("h2", site.address.replace("https:", "wss:"), site.ours.ca)
        run = await client.finished("cs241", await client.submit("cs241", "mp1", students=20))
        listed = await command(site.ours.ca, "grader", "list", "--server", site.address, "--token", OPERATOR_TOKEN)

    assert {job["outcome"] for job in run["jobs"]} == {"succeeded"}
    assert {job["grader"] for job in run["jobs"]} >= {"h1"}
    assert (listed.exit_code, "h1" in listed.stdout) == (0, True), listed.stderr


async def command(ca: Path, *arguments: str, **environment: str) -> Command:
    """Run `broadway` with this authority as the trusted one."""
    return await broadway(*arguments, BROADWAY_CA_FILE=str(ca), **environment)


async def test_the_doctor_trusts_the_configured_authority(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.address, verify=trust(site.ours.ca)) as http:
        await until(Client(http).is_ready)
    environment = {**site.control_plane.environment, "BROADWAY_SERVER": site.address}

    trusting = await command(site.ours.ca, "doctor", "--json", **environment)
    misled = await command(site.stranger.ca, "doctor", "--json", **environment)

    well, ill = ({each["check"]: each["level"] for each in json.loads(done.stdout)} for done in (trusting, misled))
    assert (well["api"], well["broker"]) == ("ok", "ok"), trusting.stdout
    assert (ill["api"], ill["broker"]) == ("problem", "problem"), misled.stdout


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_grader_refuses_an_api_that_it_cannot_trust(site: Site, scheme: str) -> None:
    async with httpx2.AsyncClient(base_url=site.address, verify=trust(site.ours.ca)) as http:
        await until(Client(http).is_ready)
    address = site.address.replace("https", scheme)

    astray, by_address = f"astray-{scheme}", f"by-address-{scheme}"

    await site.join(astray, address, site.stranger.ca)
    assert await site.hosts.running[astray].wait() == 1
    assert "is not trusted: unable to get local issuer certificate; is --ca-file right?" in site.hosts.log(astray)

    await site.join(by_address, address.replace("localhost", "127.0.0.1"), site.ours.ca)
    assert await site.hosts.running[by_address].wait() == 1
    assert "is not trusted: IP address mismatch" in site.hosts.log(by_address)


async def test_services_refuse_a_broker_that_they_cannot_trust(site: Site, tmp_path: Path) -> None:
    by_address = str(URL(site.amqps_url).with_host("127.0.0.1"))
    async with processes(tmp_path / "others", site.control_plane.environment) as others:
        await others.service("results", "--ca-file", str(site.stranger.ca))
        await others.service("dispatcher", "--ca-file", str(site.ours.ca), "--amqp-url", by_address)

        assert await others.running["results"].wait() == 1
        assert "is not trusted: self-signed certificate in certificate chain; is --ca-file right?" in others.log(
            "results"
        )
        assert await others.running["dispatcher"].wait() == 1
        assert "IP address mismatch" in others.log("dispatcher")
