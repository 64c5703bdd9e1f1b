"""ops/k8s, as far as it can be checked without a cluster: Kubernetes's own schemas, and what schemas do not see."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from app.settings import VARIABLES, Settings
from loadtest.key import VARIABLE
from tests.ops.custom_kinds import KINDS
from tests.ops.test_compose import modules
from tests.ops.test_rules import ours

FOLDER = Path(__file__).parents[2] / "ops/k8s"
VERSIONS = ("1.34", "1.37")
"""The oldest and the newest that are asked. `preStop.sleep` is in each."""
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
DOCUMENTS: list[dict[str, Any]] = [document for path in FILES for document in yaml.safe_load_all(path.read_text())]


def kinds(*wanted: str) -> list[Any]:
    """Documents of these kinds, with their name as the test's."""
    return [
        pytest.param(each, id=f"{each['kind']} {each['metadata']['name']}")
        for each in DOCUMENTS
        if each["kind"] in wanted
    ]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in DOCUMENTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a pod's, those that run before the others among them."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def secrets(container: dict[str, Any]) -> set[str]:
    """Name those that a container has, whole or by a key."""
    whole = {source["secretRef"]["name"] for source in container.get("envFrom", ()) if "secretRef" in source}
    keys = {each["valueFrom"]["secretKeyRef"]["name"] for each in container.get("env", ()) if "valueFrom" in each}
    return whole | keys


def pods() -> dict[str, dict[str, Any]]:
    """Every pod template, by what makes it."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in DOCUMENTS
        if each["kind"] in {"Deployment", "Job"}
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", kinds(*({each["kind"] for each in DOCUMENTS} - KINDS.keys())))
def test_every_document_is_valid_by_kubernetes_own_schemas(document: dict[str, Any], version: str) -> None:
    """Strictly: a field that does not exist is an error."""
    kubernetes_validate.validate(document, version, strict=True)


def test_kustomizations_list_every_file() -> None:
    """A file that is not listed would never be applied."""
    for folder in (FOLDER, FOLDER / "load"):
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        here = {name for name in listed if not (folder / name).is_dir()}
        assert here == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}


def test_selectors_match_the_labels_of_pods() -> None:
    """A budget, policy, service or monitor that selects nothing does nothing, without a word."""
    labels = [template["metadata"]["labels"] for template in pods().values()]
    services = [each["metadata"].get("labels", {}) for each in DOCUMENTS if each["kind"] == "Service"]
    for each in DOCUMENTS:
        spec = each.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
        among = services if each["kind"] == "ServiceMonitor" else labels
        assert any(wanted.items() <= have.items() for have in among), each["metadata"]["name"]
    for name in ("api", "worker"):
        deployment = named("Deployment", name)["spec"]
        assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
        assert named("PodDisruptionBudget", name)["spec"]["selector"] == deployment["selector"]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_what_serves_has_probes_limits_and_time_to_stop(name: str) -> None:
    """The grace is longer than the drain and all that comes before and after it."""
    pod = pods()[name]["spec"]
    (container,) = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert "cpu" not in container["resources"]["limits"]
    drain = next(each["value"] for each in container["env"] if each["name"].endswith("_DRAIN_S"))
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] > before + float(drain) + 10
    ports = {port["name"] for port in container["ports"]}
    assert {
        container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    } <= ports


@pytest.mark.parametrize("name", pods())
def test_nothing_has_rights_it_does_not_need(name: str) -> None:
    """As the namespace's `restricted` standard asks, and more."""
    pod = pods()[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    for container in containers(pods()[name]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"cpu", "memory"} == set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert modules(container["command"])


def test_settings_are_ones_that_are_read_and_secrets_are_not_among_them() -> None:
    """No variable is set that nothing reads; addresses with passwords come from the secret."""
    given = set(named("ConfigMap", "streamgauge")["data"])
    for pod in pods().values():
        own = [each for container in containers(pod) for each in container.get("env", ())]
        assert {each["name"] for each in own} <= VARIABLES | {VARIABLE}
        given |= {each["name"] for each in own if "value" in each}
    assert given <= VARIABLES
    assert not given & {"REDIS_URL", "BROKER_URL", "DATABASE_URL", "OPENAI_API_KEY"}
    assert not given & {"STREAMGAUGE_API_KEYS", "STREAMGAUGE_METRICS_TOKEN", "STREAMGAUGE_OPEN"}  # no keys, no start
    assert Settings.model_validate({}).worker_metrics_host == "127.0.0.1"  # so that the pod's own is needed


def test_each_process_has_the_secrets_that_it_uses() -> None:
    """The model's key is the workers' alone, those of owners the APIs'; a migration knows its database."""
    assert {name: [secrets(container) for container in containers(pod)] for name, pod in pods().items()} == {
        "api": [{"streamgauge-servers"}, {"streamgauge-servers", "streamgauge-api"}],
        "worker": [{"streamgauge-servers"}, {"streamgauge-servers", "streamgauge-worker"}],
        "migrate": [{"streamgauge-servers"}],
        "locust-master": [{"streamgauge-load"}],
        "locust-worker": [{"streamgauge-load"}],
    }
    for pod in pods().values():
        for container in containers(pod):
            by_key = [each["valueFrom"]["secretKeyRef"] for each in container.get("env", ()) if "valueFrom" in each]
            assert {each["key"] for each in by_key} <= {"DATABASE_URL", VARIABLE}


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_new_version_waits_for_its_schema(name: str) -> None:
    """Whatever is applied first; tests/ops/test_schema_wait.py says until when."""
    (wait,) = pods()[name]["spec"]["initContainers"]
    assert (wait["image"], wait["command"]) == ("streamgauge", ["python", "-m", "ops.schema_wait"])


def test_autoscalers_ask_for_metrics_that_exist() -> None:
    """A renamed metric would scale nothing."""
    queries = [trigger["metadata"]["query"] for trigger in named("ScaledObject", "worker")["spec"]["triggers"]]
    (viewers,) = named("HorizontalPodAutoscaler", "api")["spec"]["metrics"]
    asked = set(re.findall(r"streamgauge_\w+", " ".join([*queries, viewers["pods"]["metric"]["name"]])))
    assert asked == {name for name in asked if name in ours() or name.removesuffix("_bucket") in ours()}
    for kind, name in (("HorizontalPodAutoscaler", "api"), ("ScaledObject", "worker")):
        assert named(kind, name)["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in named("Deployment", name)["spec"]  # two would argue about it


def test_monitors_read_ports_that_exist_under_the_jobs_that_alerts_name() -> None:
    """`ProcessDown` asks for jobs that begin with streamgauge."""
    for kind, key, name in (("ServiceMonitor", "endpoints", "api"), ("PodMonitor", "podMetricsEndpoints", "worker")):
        monitor = named(kind, f"streamgauge-{name}")
        (endpoint,) = monitor["spec"][key]
        assert endpoint["port"] in {port["name"] for port in pods()[name]["spec"]["containers"][0]["ports"]}
        credentials = {"name": "streamgauge-api", "key": "STREAMGAUGE_METRICS_TOKEN"}
        assert endpoint.get("authorization") == ({"credentials": credentials} if name == "api" else None)
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": f"streamgauge-{name}"}]


def test_policies_deny_first_and_open_the_ports_that_are_served() -> None:
    """A policy for everything with no rule, then what is needed."""
    nothing = named("NetworkPolicy", "nothing")["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in ("api", "worker"):
        (rule,) = named("NetworkPolicy", name)["spec"]["ingress"]
        served = {port["containerPort"] for port in pods()[name]["spec"]["containers"][0]["ports"]}
        assert {port["port"] for port in rule["ports"]} == served


def test_pods_reach_names_and_servers_and_no_neighbours() -> None:
    """Names by UDP and TCP, servers by the ports of each way to run them; a worker the world, not the cluster."""
    names, servers, collector = named("NetworkPolicy", "servers")["spec"]["egress"]
    asked = [names, next(rule for rule in named("NetworkPolicy", "locust")["spec"]["egress"] if "to" not in rule)]
    for rule in asked:
        assert rule["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert {port["port"] for port in servers["ports"]} == {5432, 6432, 6379, 6380, 26379}
    endpoint = named("ConfigMap", "streamgauge")["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert {port["port"] for port in collector["ports"]} == {urlsplit(endpoint).port}
    (world,) = named("NetworkPolicy", "model")["spec"]["egress"]
    blocks = [ip_network(each) for to in world["to"] for each in to["ipBlock"]["except"]]
    for neighbour in ("10.96.0.1", "172.20.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "fd00::1"):
        assert any(ip_address(neighbour) in block for block in blocks), neighbour
