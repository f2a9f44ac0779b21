"""The manifests of deploy/kubernetes: valid for several versions of Kubernetes, whole, confined, and with our settings.

No test has a cluster: that pods of these manifests run is not shown here.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from broadway import __version__
from broadway.ingest.v2.routes import V2
from broadway.messages.topology import ready_queue
from broadway.settings.programs import PROGRAMS
from broadway.settings.setting_names import IN_FILE, leaves

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "kubernetes"
OLDEST = "1.29"  # the first with sidecars by default
INSTALL = (ROOT / "docs" / "install.md").read_text()
Object = dict[str, Any]


def read(path: Path) -> list[Object]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


MANIFESTS = sorted(FILES.glob("*.yaml"))
SCALERS = sorted((FILES / "keda").glob("*.yaml"))
OBJECTS = [each for path in MANIFESTS for each in read(path)]


def find(kind: str, name: str) -> Object:
    (found,) = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def workloads() -> Iterator[tuple[str, str, Object]]:
    """Yield the name, the namespace and the pod of each object that makes pods."""
    for each in OBJECTS:
        if pod := each.get("spec", {}).get("template", {}).get("spec"):
            yield each["metadata"]["name"], each["metadata"]["namespace"], pod


WORKLOADS = list(workloads())
PERMANENT = [each for each in WORKLOADS if each[0] != "broadway-topology"]
of_workloads = pytest.mark.parametrize(("name", "namespace", "pod"), WORKLOADS, ids=[each[0] for each in WORKLOADS])
of_permanent = pytest.mark.parametrize(("name", "namespace", "pod"), PERMANENT, ids=[each[0] for each in PERMANENT])


def variables(container: Object) -> dict[str, str | None]:
    """Return a container's variables, with those of its config maps."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        found |= find("ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {each["name"]: each.get("value") for each in container.get("env", [])}


def ours(pod: Object) -> Object:
    """Return the container of a pod that runs Broadway."""
    (found,) = [each for each in pod["containers"] if "broadway:" in each["image"]]
    return found


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", MANIFESTS, ids=[each.name for each in MANIFESTS])
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    for each in read(path):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replica"), 2),
        (("spec", "template", "spec", "terminationGracePeriodSeconds"), "soon"),
        (("spec", "template", "spec", "containers", 0, "livenesProbe"), {}),
    ],
    ids=["unknown", "type", "nested"],
)
def test_a_wrong_manifest_is_refused(path: tuple[str | int, ...], value: object) -> None:
    wrong = copy.deepcopy(find("StatefulSet", "broadway-grader"))
    place: Any = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


@of_workloads
def test_a_pod_is_confined(name: str, namespace: str, pod: Object) -> None:
    is_grader = namespace == "broadway-graders"
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert "memory" in container["resources"]["limits"], container["name"]
        assert re.search(r":\d+\.\d+\.\d+", container["image"]), "pinned"
        assert container["securityContext"].get("privileged", False) is is_grader, name
    assert ours(pod)["securityContext"]["readOnlyRootFilesystem"]
    assert ours(pod)["image"].endswith(f"/broadway:{__version__}")
    if not is_grader:
        assert pod["securityContext"]["runAsNonRoot"]
        assert ours(pod)["securityContext"]["allowPrivilegeEscalation"] is False
        assert ours(pod)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@of_permanent
def test_a_pod_has_the_settings_of_its_program(name: str, namespace: str, pod: Object) -> None:  # noqa: ARG001
    container = ours(pod)
    (program,) = re.findall(r"broadway\.(\w+)", " ".join([*container.get("command", []), *container.get("args", [])]))[
        :1
    ]
    known = {leaf.variable for leaf in leaves(PROGRAMS[program])}
    given = {each for each in variables(container) if each.startswith("BROADWAY_")}
    assert {each.removesuffix(IN_FILE) if each not in known else each for each in given} <= known


@of_workloads
def test_all_that_a_pod_names_exists(name: str, namespace: str, pod: Object) -> None:
    volumes = {each["name"]: each for each in pod["volumes"]}
    claims = {each["metadata"]["name"] for each in find_claims(name)}
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    mounted = {mount["name"] for each in containers for mount in each["volumeMounts"]}
    assert mounted == volumes.keys() | claims
    secret = volumes["secrets"]["secret"]["secretName"]
    places = {mount["name"]: mount["mountPath"] for mount in ours(pod)["volumeMounts"]}
    for variable, value in variables(ours(pod)).items():
        if variable.endswith(IN_FILE) and variable != "BROADWAY_HEALTH_FILE":
            directory, _, key = str(value).rpartition("/")
            assert directory == places["secrets"], variable
            assert key in documented(secret, namespace), secret
    for container in containers:
        ports = {each["name"] for each in container.get("ports", [])}
        probes = [container[each] for each in ("startupProbe", "livenessProbe", "readinessProbe") if each in container]
        assert {each["httpGet"]["port"] for each in probes if "httpGet" in each} <= ports


def find_claims(name: str) -> list[Object]:
    sets = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == ("StatefulSet", name)]
    return [claim for each in sets for claim in each["spec"].get("volumeClaimTemplates", [])]


def documented(secret: str, namespace: str) -> set[str]:
    """Return the keys of a secret that the documented command makes."""
    command = re.search(rf"kubectl -n {namespace} create secret generic {secret} (.*\\\n)*.*", INSTALL)
    return set(re.findall(r"--from-literal=(\w+)=", command[0])) if command else set()


@of_permanent
def test_a_pod_is_probed(name: str, namespace: str, pod: Object) -> None:  # noqa: ARG001
    container = ours(pod)
    health = variables(container)["BROADWAY_HEALTH_FILE"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if "httpGet" in container[probe]:
            assert container[probe]["httpGet"]["path"] in ("/livez", "/readyz")
        else:
            assert str(health) in " ".join(container[probe]["exec"]["command"])


@pytest.mark.parametrize("name", ["broadway-grader", "broadway-node-grader"])
def test_a_grader_drains_before_it_is_killed(name: str) -> None:
    (pod,) = [pod for each, _, pod in WORKLOADS if each == name]
    drains = float(str(variables(ours(pod))["BROADWAY_DRAIN_TIMEOUT"]))
    assert drains + 30 <= pod["terminationGracePeriodSeconds"]


def test_an_engine_outlives_its_grader_and_sees_its_mounts() -> None:
    pod = find("StatefulSet", "broadway-grader")["spec"]["template"]["spec"]
    (engine,) = pod["initContainers"]
    assert engine["restartPolicy"] == "Always", "a sidecar ends after the containers"
    mounts = [{each["name"]: each for each in one["volumeMounts"]} for one in (engine, ours(pod))]
    assert mounts[0]["work"]["mountPath"] == mounts[1]["work"]["mountPath"]
    assert mounts[0]["work"]["mountPath"] == variables(ours(pod))["BROADWAY_WORK_DIR"]
    assert [each["work"]["mountPropagation"] for each in mounts] == ["HostToContainer", "Bidirectional"]
    socket = f"unix://{mounts[0]['socket']['mountPath']}/docker.sock"
    assert variables(ours(pod))["DOCKER_HOST"] == socket
    assert engine["args"] == ["dockerd", f"--host={socket}"]


def test_services_and_budgets_select_pods() -> None:
    labels = [
        each["spec"]["template"].get("metadata", {}).get("labels")
        for each in OBJECTS
        if "template" in each.get("spec", {})
    ]
    for each in OBJECTS:
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            selector = each["spec"]["selector"]
            assert selector.get("matchLabels", selector) in labels, each["metadata"]["name"]


@pytest.mark.parametrize("path", SCALERS, ids=[each.name for each in SCALERS])
def test_a_scaler_names_what_exists(path: Path) -> None:
    login, scaler = read(path)
    assert (login["kind"], scaler["kind"]) == ("TriggerAuthentication", "ScaledObject")
    target = scaler["spec"]["scaleTargetRef"]
    graders = find(target["kind"], target["name"])
    assert (graders["apiVersion"], graders["metadata"]["namespace"]) == (
        target["apiVersion"],
        scaler["metadata"]["namespace"],
    )
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    for each in login["spec"]["secretTargetRef"]:
        assert each["key"] in documented(each["name"], scaler["metadata"]["namespace"])
    settings = find("ConfigMap", "broadway-grader")["data"]
    known = trigger["metadata"]
    assert known.get("targetValue", known.get("value")) == settings["BROADWAY_SLOTS"]
    if trigger["type"] == "rabbitmq":
        assert known["queueName"] == ready_queue(settings["BROADWAY_POOL"]).name
    else:
        service = find("Service", "broadway")
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
        assert known["url"].startswith(f"http://{host}:{service['spec']['ports'][0]['port']}/api/v2/pools/")
        assert f"/pools/{settings['BROADWAY_POOL']}?" in known["url"]
        assert settings["BROADWAY_API_HOST"] == f"http://{host}:1470"
        assert "/api/v2/pools/{pool:id}" in V2
