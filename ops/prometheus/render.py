"""Makes rules.yml, and a PrometheusRule of the same, of objectives.yml; `--check` only says what is out of date."""

import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OBJECTIVES, RULES, OF_KUBERNETES = HERE / "objectives.yml", HERE / "rules.yml", HERE.parent / "k8s/rules.yaml"
HEAD = "# Made by `python -m ops.prometheus.render` from objectives.yml; edit that.\n"


def rules(data: dict[str, Any]) -> dict[str, Any]:
    """Give Prometheus's rule groups: the error ratios, the symptoms that wake people, the causes that explain them."""
    objectives, burns = data["objectives"], data["burns"]
    windows = sorted({burn[size] for burn in burns for size in ("long", "short")})
    recording = [
        {"record": _ratio(objective, window), "expr": objective["errors"].replace("$window", window)}
        for objective in objectives
        for window in windows
    ]
    recording += [
        {"record": _count(objective, burn["long"]), "expr": objective["events"].replace("$window", burn["long"])}
        for objective in objectives
        for burn in burns
    ]
    symptoms = [_burn(objective, burn, data["least_events"]) for objective in objectives for burn in burns]
    causes = [
        _alert(cause["name"], cause["expr"], cause["for"], "ticket", cause["summary"], cause["name"])
        for cause in data["causes"]
    ]
    groups = {"streamgauge-ratios": recording, "streamgauge-symptoms": symptoms, "streamgauge-causes": causes}
    return {"groups": [{"name": name, "rules": group} for name, group in groups.items()]}


def render() -> dict[Path, str]:
    """Give the text of each file."""
    groups = rules(yaml.safe_load(OBJECTIVES.read_text()))
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "streamgauge"},
        "spec": groups,
    }
    return {RULES: _text(groups), OF_KUBERNETES: _text(resource)}


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` fail if they are not what the objectives make."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m ops.prometheus.render [--check]", file=sys.stderr)  # noqa: T201
        return 2
    texts = render()
    old = [path.name for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if arguments and old:
        print(f"Out of date: {', '.join(old)}. Run `python -m ops.prometheus.render` and commit.", file=sys.stderr)  # noqa: T201
        return 1
    for path, text in texts.items():
        path.write_text(text)
    return 0


def _text(document: dict[str, Any]) -> str:
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)


def _ratio(objective: dict[str, Any], window: str) -> str:
    return f"streamgauge:{objective['name'].lower()}_errors:ratio_rate{window}"


def _count(objective: dict[str, Any], window: str) -> str:
    return f"streamgauge:{objective['name'].lower()}_events:increase{window}"


def _burn(objective: dict[str, Any], burn: dict[str, Any], least: int) -> dict[str, Any]:
    limit = round(burn["factor"] * (1 - objective["goal"]), 6)
    expr = " and ".join(f"{_ratio(objective, burn[size])} > {limit}" for size in ("long", "short"))
    expr += f" and {_count(objective, burn['long'])} >= {least}"
    summary = f"{objective['promise']} Now {{{{ $value | humanizePercentage }}}} miss it over {burn['long']}."
    name = f"{objective['name']}{burn['suffix']}"
    alert = _alert(name, expr, burn["for"], burn["severity"], summary, objective["name"])
    # By it Alertmanager mutes the slower alerts of an objective that pages, and of no other.
    alert["labels"]["objective"] = objective["name"]
    return alert


def _alert(name: str, expr: str, hold: str, severity: str, summary: str, runbook: str) -> dict[str, Any]:
    annotations = {"summary": summary, "runbook": f"ops/runbooks/{runbook}.md"}
    return {"alert": name, "expr": expr, "for": hold, "labels": {"severity": severity}, "annotations": annotations}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
