"""docker-compose.yml and Dockerfile, as far as they can be checked without a container engine."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from app.settings import VARIABLES, Settings
from loadtest.key import VARIABLE

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
API: dict[str, str] = SERVICES["api"]["environment"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def modules(command: list[str]) -> list[str]:
    """Name the modules that a command of ours imports."""
    assert command[:2] == ["python", "-m"]
    targets = [word.partition(":")[0] for word in command[3:] if re.fullmatch(r"app\.\w+(:\w+)?", word)]
    return [command[2], *targets]


CORE = {"valkey", "broker", "postgres", "migrate", "model", "worker", "api", "nginx"}
OBSERVING = {"prometheus", "alertmanager", "grafana", "tempo", "otel-collector", "valkey-exporter", "postgres-exporter"}
LOAD = {"locust-master", "locust-worker"}
SHELLESS = {"tempo", "otel-collector", "valkey-exporter", "postgres-exporter"}
"""Their images hold the one program, and nothing that could ask it."""


def test_every_part_of_the_system_is_there() -> None:
    """What `streamgauge up` starts, what observes it, and by a profile what loads it."""
    assert set(SERVICES) == CORE | OBSERVING | LOAD
    assert {name for name, service in SERVICES.items() if "profiles" in service} == LOAD


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.tls.yml"])
def test_the_files_are_valid_by_the_compose_specification(name: str) -> None:
    """Judged by a parser of the specification; anchors are resolved by YAML first, as an engine does."""
    document = yaml.safe_load(re.sub(r"\$\{TLS_FOLDER\S.*?\}", "./certificate", (ROOT / name).read_text()))
    PyCompose.from_yaml(yaml.safe_dump(document))
    next(iter(document["services"].values()))["helthcheck"] = {}
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_yaml(yaml.safe_dump(document))


def test_servers_of_ones_own_come_by_a_second_file() -> None:
    """The one that the documentation shows: services and settings that exist, where a network leads out of the host."""
    shown = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    assert shown
    services = yaml.safe_load(shown[1])["services"]
    PyCompose.from_yaml(yaml.safe_dump({"services": services}))
    assert set(services) == {name for name, service in OURS.items() if "DATABASE_URL" in service["environment"]}
    for name, service in services.items():
        assert set(service["environment"]) <= VARIABLES
        networks = {*SERVICES[name]["networks"], *service.get("networks", ())}
        assert any(not (COMPOSE["networks"][network] or {}).get("internal") for network in networks)


def test_what_is_mounted_exists_and_is_read_only() -> None:
    """A missing file would become an empty folder, which no server starts from."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            assert target.startswith("/")
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
                assert mode == ["ro"], f"{name} may write to {source}"
            else:
                assert source in COMPOSE["volumes"]


def test_every_part_is_bounded_and_has_no_more_rights_than_it_needs() -> None:
    """Memory, processor and logs have limits; rights of root's are dropped; every root file system is read only."""
    for name, service in SERVICES.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"], name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}, name


@pytest.mark.parametrize("name", ["valkey", "broker"])
def test_a_full_server_refuses_before_it_is_killed(name: str) -> None:
    """Its own limit is below the container's; one that rewrites its file in a fork has as much again."""
    command = SERVICES[name]["command"]
    own = _bytes(command[command.index("--maxmemory") + 1])
    outer = _bytes(SERVICES[name]["deploy"]["resources"]["limits"]["memory"])
    assert own * (2 if "--appendonly" in command else 1.2) <= outer


@pytest.mark.parametrize("name", ["valkey", "broker"])
def test_valkey_wants_the_password_that_its_clients_have(name: str) -> None:
    """The app, the exporter, and the program that asks for its health."""
    command = SERVICES[name]["command"]
    password = command[command.index("--requirepass") + 1]
    assert SERVICES[name]["environment"]["VALKEYCLI_AUTH"] == password
    assert SERVICES["valkey-exporter"]["environment"]["REDIS_PASSWORD"] == password
    assert f"redis://:{password}@{name}:6379/0" in {API["REDIS_URL"], API["BROKER_URL"]}


def _bytes(words: str) -> int:
    size, unit = re.fullmatch(r"(\d+)([mMgG])b?", words).groups()  # type: ignore[union-attr]
    return int(size) << {"m": 20, "g": 30}[unit.lower()]


def test_the_models_key_is_the_workers_alone() -> None:
    """And a migration knows its database, nothing else."""
    assert {name for name in OURS if "OPENAI_API_KEY" in OURS[name]["environment"]} == {"worker"}
    assert set(OURS["migrate"]["environment"]) == {"DATABASE_URL"}
    assert OURS["migrate"]["environment"]["DATABASE_URL"] == API["DATABASE_URL"]


def test_secrets_come_from_a_file_that_git_ignores() -> None:
    """And an unset one stops the start instead of becoming a known password."""
    text = (ROOT / "docker-compose.yml").read_text()
    asked = re.findall(r"\$\{(\w*(?:PASSWORD|METRICS_TOKEN))(.*?)\}", text)
    assert {name for name, _ in asked} == set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.M))
    assert all(otherwise.startswith(":?") for _, otherwise in asked)
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_a_stop_waits_longer_than_the_drain() -> None:
    """Else the engine would kill what still answers."""
    drains = {"worker": Settings().worker_drain_s, "api": Settings().api_drain_s}
    for name, drain_s in drains.items():
        assert float(SERVICES[name]["stop_grace_period"].rstrip("s")) > drain_s + 5


def test_prometheus_scrapes_what_is_there() -> None:
    """Each target is a service, each alert's job exists, and rules and Alertmanager are where it looks."""
    config = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert {"streamgauge-api", "streamgauge-worker"} <= jobs
    hosts = set()
    for job in config["scrape_configs"]:
        hosts |= {name for look in job.get("dns_sd_configs", ()) for name in look["names"]}
        hosts |= {at.partition(":")[0] for static in job.get("static_configs", ()) for at in static["targets"]}
    assert hosts <= set(SERVICES)
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]


def test_prometheus_has_the_token_of_the_metrics(tmp_path: Path) -> None:
    """Its entrypoint, run by a shell, leaves it where the configuration looks, for nobody else, and then starts it."""
    config = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())
    (file,) = (
        each["authorization"]["credentials_file"] for each in config["scrape_configs"] if "authorization" in each
    )
    assert SERVICES["prometheus"]["tmpfs"] == [str(Path(file).parent)]
    assert SERVICES["prometheus"]["environment"] == {"METRICS_TOKEN": API["STREAMGAUGE_METRICS_TOKEN"]}
    shell, flag, script, name = SERVICES["prometheus"]["entrypoint"]
    token = tmp_path / "token"
    script = script.replace("$$", "$").replace(file, str(token)).replace("/bin/prometheus", "echo")
    argv = [shell, flag, script, name, "--config.file=x", "--y"]
    done = subprocess.run(argv, env={"METRICS_TOKEN": "a % token"}, capture_output=True, text=True, timeout=30)
    assert done.stdout == "--config.file=x --y\n"
    assert (token.read_text(), token.stat().st_mode & 0o777) == ("a % token", 0o600)


def test_grafana_finds_its_sources_and_dashboards() -> None:
    """By the uids that exemplars lead to, and where the generated dashboards are mounted."""
    folder = ROOT / "ops/grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/streamgauge.yml").read_text())["datasources"]
    by_uid = {source["uid"]: source for source in sources}
    leads_to = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"][0]
    assert (leads_to["name"], leads_to["datasourceUid"] in by_uid) == ("trace_id", True)
    for source in sources:
        assert re.fullmatch(r"http://([\w-]+):\d+", source["url"])[1] in SERVICES  # type: ignore[index]
    (provider,) = yaml.safe_load((folder / "dashboards/streamgauge.yml").read_text())["providers"]
    assert f"./dashboards/generated:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_spans_find_their_way_to_tempo() -> None:
    """From the app to the collector to Tempo, port by port."""
    collector = yaml.safe_load((ROOT / "ops/otel/collector.yml").read_text())
    tempo = yaml.safe_load((ROOT / "ops/tempo/tempo.yml").read_text())
    assert OURS["api"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel-collector:4318"
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert collector["exporters"]["otlp/tempo"]["endpoint"] == "tempo:4317"
    assert tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")
    pipeline = collector["service"]["pipelines"]["traces"]
    for kind, names in pipeline.items():
        assert set(names) <= set(collector[kind]), kind


@pytest.mark.parametrize("name", OURS)
def test_commands_name_modules_that_exist(name: str) -> None:
    """What a container starts can be imported from the folders that the image holds."""
    for module in modules(OURS[name]["command"]):
        assert find_spec(module) is not None, module
        package = module.partition(".")[0]
        assert not (ROOT / package).is_dir() or f"COPY {package} {package}\n" in DOCKERFILE


@pytest.mark.parametrize("name", OURS)
def test_settings_are_ones_that_are_read(name: str) -> None:
    """No variable is set that nothing reads."""
    read = {VARIABLE} if name in LOAD else VARIABLES
    assert set(OURS[name]["environment"]) <= read


def test_images_are_pinned_and_are_the_versions_tested_here() -> None:
    """A tag names one version, and the servers' are those of the embedded stack."""
    assert SERVICES["valkey"]["image"].startswith("valkey/valkey:9.")
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    for image in [*(service["image"] for service in SERVICES.values()), *re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)]:
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+(\.\d+)?(-[\w-]+)?", image), image


def test_nothing_runs_as_root() -> None:
    """Servers name their user; our image ends with one that is nobody in particular."""
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M)[-1] == "10001:10001"
    for service in SERVICES.values():
        assert "build" in service or service["user"] != "root"


def test_each_waits_for_what_it_needs() -> None:
    """Servers come before the schema, the schema before its users; every lasting part can be asked for its health."""
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("api", "worker"):
        needs = {part: how["condition"] for part, how in SERVICES[name]["depends_on"].items()}
        assert needs.pop("migrate") == "service_completed_successfully"
        assert needs == dict.fromkeys(("valkey", "broker", "model"), "service_healthy")
    for name, service in SERVICES.items():
        assert name in {"migrate", *SHELLESS, *LOAD} or service["healthcheck"]["test"][0] == "CMD"


def test_what_is_published_is_published_to_this_machine_alone() -> None:
    """Pages without a login, and the API without TLS, must not be reachable from outside."""
    published = {name: port for name, service in SERVICES.items() for port in service.get("ports", ())}
    assert set(published) == {"nginx", "prometheus", "alertmanager", "grafana", "locust-master"}
    assert all(port.startswith("127.0.0.1:") for port in published.values())


def test_nothing_is_open_that_nobody_has_opened() -> None:
    """An API starts with keys, or by the word in .env; what other hosts can reach wants keys whatever that says."""
    assert API["STREAMGAUGE_OPEN"] == "${STREAMGAUGE_OPEN:-false}"
    assert re.search(r"^STREAMGAUGE_OPEN=true$", (ROOT / ".env.example").read_text(), re.M)
    tls = yaml.safe_load((ROOT / "docker-compose.tls.yml").read_text())["services"]
    assert tls["nginx"]["ports"] == ["8443:8443"]
    assert tls["api"]["environment"]["STREAMGAUGE_OPEN"] == "false"
    assert tls["api"]["environment"]["STREAMGAUGE_API_KEYS"].startswith("${STREAMGAUGE_API_KEYS:?")


def test_what_the_image_copies_exists() -> None:
    """Every source of a COPY is there, and .dockerignore lets it through."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in re.findall(r"^COPY (?!--)(\S+)", DOCKERFILE, re.M):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
