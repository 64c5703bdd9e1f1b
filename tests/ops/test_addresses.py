"""Who asks whom in Compose: each host that is named is a service on a common network, each port one that it serves."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from tests.ops.test_compose import COMPOSE, ROOT, SERVICES

ADDRESS = re.compile(r"(?:\w+://|^)(?:[^@/\s]+@)?(127\.0\.0\.1|[a-z][a-z-]*):(\d+)")


class Asked(NamedTuple):
    """One service, or a file that it reads, names an address."""

    by: str
    host: str
    port: int


def option(service: str, name: str) -> int:
    command = SERVICES[service]["command"]
    return int(command[command.index(name) + 1])


def config(name: str) -> Any:
    return yaml.safe_load((ROOT / "ops" / name).read_text())


def ports_of(name: str) -> set[int]:
    """Every port that a configuration has its program listen on."""
    text = (ROOT / "ops" / name).read_text()
    return {
        int(port) for port in re.findall(r"0\.0\.0\.0:(\d+)|port: (\d+)|listen (\d+);", text) for port in port if port
    }


SERVED = {
    "valkey": {6379},
    "broker": {6379},
    "postgres": {5432},
    "model": {option("model", "--port")},
    "worker": {int(SERVICES["worker"]["environment"]["STREAMGAUGE_WORKER_METRICS_PORT"])},
    "api": {option("api", "--port")},
    "nginx": ports_of("nginx/nginx.conf"),
    "prometheus": {9090},
    "alertmanager": {9093},
    "grafana": {3000},
    "tempo": ports_of("tempo/tempo.yml"),
    "otel-collector": ports_of("otel/collector.yml"),
    "valkey-exporter": {9121},
    "postgres-exporter": {9187},
    "locust-master": {8089, 5557},
}
"""Set here where we can set it, else the program's own."""


def in_services() -> Iterator[Asked]:
    """Addresses in commands, variables and health checks; Locust names its master and means its port."""
    for name, service in SERVICES.items():
        words = [*service.get("command", ()), *service.get("environment", {}).values()]
        words += service.get("healthcheck", {}).get("test", ())
        for word in words:
            for host, port in ADDRESS.findall(re.sub(r"\$\{[^}]*?:-(.*?)\}|\$\{.*?\}", r"\1", str(word))):
                yield Asked(name, name if host == "127.0.0.1" else host, int(port))
        if "--master-host" in words:
            yield Asked(name, words[words.index("--master-host") + 1], 5557)


def in_files() -> Iterator[Asked]:
    """Addresses in what Prometheus, the exporter, Grafana, the collector and nginx are given to read."""
    prometheus = config("prometheus/prometheus.yml")
    for job in [*prometheus["scrape_configs"], *prometheus["alerting"]["alertmanagers"]]:
        for look in job.get("dns_sd_configs", ()):
            yield from (Asked("prometheus", name, look["port"]) for name in look["names"])
        for target in [target for static in job.get("static_configs", ()) for target in static["targets"]]:
            yield asked("prometheus", target)
        for label in job.get("relabel_configs", ()):
            if label["target_label"] == "__param_target":
                yield asked("valkey-exporter", label["replacement"])
    for source in config("grafana/provisioning/datasources/streamgauge.yml")["datasources"]:
        yield asked("grafana", source["url"])
    yield asked("otel-collector", config("otel/collector.yml")["exporters"]["otlp/tempo"]["endpoint"])
    (upstream,) = re.findall(r"^ +server (\S+)(?: resolve)?;", (ROOT / "ops/nginx/nginx.conf").read_text(), re.M)
    yield asked("nginx", upstream)


def asked(by: str, address: str) -> Asked:
    ((host, port),) = ADDRESS.findall(address)
    return Asked(by, host, int(port))


ASKED = [*in_services(), *in_files()]


def networks(service: str) -> set[str]:
    return set(SERVICES[service].get("networks", ["default"]))


@pytest.mark.parametrize("each", ASKED, ids=lambda each: f"{each.by} asks {each.host}:{each.port}")
def test_what_is_asked_is_served_and_can_be_reached(each: Asked) -> None:
    """A host or port that is misspelt would be seen at the first request, and one of another network, too."""
    assert each.host in SERVED
    assert each.port in SERVED[each.host]
    assert networks(each.by) & networks(each.host)


def test_everybody_is_asked() -> None:
    """The search above finds the addresses: of all services but those that nobody has to ask."""
    assert set(SERVICES) - {each.host for each in ASKED} == {"migrate", "locust-worker"}
    by_api = {each.host for each in ASKED if each.by == "api"}
    assert by_api == {"valkey", "broker", "postgres", "otel-collector", "api"}


def test_what_is_published_is_served_and_can_be_published() -> None:
    """A port of a network that leads nowhere would not be."""
    for name, service in SERVICES.items():
        for published in service.get("ports", ()):
            assert int(published.rpartition(":")[2]) in SERVED[name]
            assert networks(name) - {"data"}


def test_servers_are_reached_by_those_alone_who_use_them() -> None:
    """Neither the model, nor the load, nor Grafana or nginx; and nothing leads out of that network."""
    assert {name for name in SERVICES if "data" in networks(name)} == {
        "valkey", "broker", "postgres", "migrate", "api", "worker", "valkey-exporter", "postgres-exporter",
    }  # fmt: skip
    assert {name for name, of in COMPOSE["networks"].items() if (of or {}).get("internal")} == {"data"}
    assert set().union(*map(networks, SERVICES)) == set(COMPOSE["networks"])


def test_what_is_waited_for_is_there() -> None:
    """An engine refuses a name that is no service."""
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)
