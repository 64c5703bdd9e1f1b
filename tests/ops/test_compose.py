"""docker-compose.yml and Dockerfile, as far as they can be checked without a container engine."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices

from app.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def settings_names() -> set[str]:
    """Name every environment variable that the app reads."""
    names = set()
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names.add(str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"STREAMGAUGE_{field.upper()}")
    return names


def modules(command: list[str]) -> list[str]:
    """Name the modules that a command of ours imports."""
    assert command[:2] == ["python", "-m"]
    targets = [word.partition(":")[0] for word in command[3:] if re.fullmatch(r"app\.\w+(:\w+)?", word)]
    return [command[2], *targets]


def test_every_part_of_the_system_is_there() -> None:
    """The parts of `streamgauge up`, one service each."""
    assert set(SERVICES) == {"valkey", "postgres", "migrate", "model", "worker", "api"}


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
    assert set(OURS[name]["environment"]) <= settings_names()


def test_images_are_pinned_and_are_the_versions_tested_here() -> None:
    """A tag names one version, and the servers' are those of the embedded stack."""
    assert SERVICES["valkey"]["image"].startswith("valkey/valkey:9.")
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    for image in [*(service["image"] for service in SERVICES.values()), *re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)]:
        assert re.fullmatch(r"[\w/]+:\d+\.\d+(\.\d+)?(-[\w-]+)?", image), image


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
        assert needs == {
            "migrate": "service_completed_successfully", "valkey": "service_healthy", "model": "service_healthy",
        }  # fmt: skip
    for name, service in SERVICES.items():
        assert name == "migrate" or service["healthcheck"]["test"][0] == "CMD"


def test_only_the_api_is_published_and_only_to_this_machine() -> None:
    """A database without a strong password must not be reachable from outside."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8000:8000"]}


def test_what_the_image_copies_exists() -> None:
    """Every source of a COPY is there, and .dockerignore lets it through."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in re.findall(r"^COPY (?!--)(\S+)", DOCKERFILE, re.M):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
