"""Two saved runs: what changed, how sure that is, and whether CI may go on."""

import json
import math
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml  # noqa: N813

import jsonschema
import pytest
from typer.testing import CliRunner

from loadtest import compare, document
from loadtest.compare import Outcome
from loadtest.stats import quartets_to_tell, welch_log_ratio
from ops.measure_commands import app
from tests.ops.test_cli import streamgauge
from tests.support.results import run_of, typed

ROOT = Path(__file__).parent.parent.parent
P50 = ["delivery_latency.p50"]


def saved(folder: Path, name: str, made: dict[str, Any]) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(made))
    return str(path)


def outcome_of(before: dict[str, Any], after: dict[str, Any], *, allowed: float = 1.25) -> Outcome:
    return compare.outcome(compare.gate(typed(before), typed(after), P50, allowed))


def test_the_kept_schema_is_the_types_own() -> None:
    """docs/result.schema.json is made by `python -m loadtest.document`, and a result keeps to it."""
    kept = (ROOT / "docs/result.schema.json").read_bytes()
    assert kept == document.json_schema()
    jsonschema.validate(run_of(), json.loads(kept))


def test_welchs_interval_is_the_published_one() -> None:
    """Unequal spreads: t = 12.706 at 1 degree, by hand for {0, 2} against {1, 1}."""
    found = welch_log_ratio([0.0, 2.0], [1.0, 1.0])
    assert found["estimate"] == pytest.approx(1.0)
    assert found["high"] == pytest.approx(math.exp(12.706 * 1.0), rel=1e-6)
    # Equal spreads and sizes reduce to Student's: ±0.5 about 0 and 1, variance 1/3 each, 6 degrees.
    even = welch_log_ratio([-0.5, -0.5, 0.5, 0.5], [0.5, 0.5, 1.5, 1.5])
    assert even["low"] == pytest.approx(math.exp(1 - 2.447 * math.sqrt(2 * (1 / 3) / 4)), rel=1e-6)


def test_a_twofold_slowdown_is_a_regression() -> None:
    """The whole interval lies above what is allowed."""
    slow = run_of({"polling": 100, "pubsub": 1.6}, spread=0.05)
    assert outcome_of(run_of(spread=0.05), slow) is Outcome.REGRESSION


@pytest.mark.parametrize("seed", range(2, 7))
def test_equal_runs_pass(seed: int) -> None:
    """Different noise, the same system."""
    assert outcome_of(run_of(spread=0.05), run_of(spread=0.05, seed=seed)) is Outcome.PASS


def test_noise_around_the_limit_is_inconclusive_and_no_regression() -> None:
    """A worse estimate is not enough: the bound has to say so."""
    slower = run_of({"polling": 70, "pubsub": 1.1}, spread=0.6, seed=5)
    assert outcome_of(run_of(spread=0.6), slower) is Outcome.INCONCLUSIVE


def test_an_inconclusive_check_says_how_many_quartets_would_tell() -> None:
    """As many as bring the same scatter to an interval that ends short of the limit; or another limit, if too many."""
    before, after = run_of(spread=0.6), run_of({"polling": 50, "pubsub": 0.8}, spread=0.6, seed=5)
    checks = compare.gate(typed(before), typed(after), P50, 1.25)
    told = [one.why for one in checks if one.outcome is Outcome.INCONCLUSIVE]
    assert told
    assert all("quartets in each run would" in why for why in told)
    # By hand: half is 0.3 with 6 degrees (2.447), and 0.3 × 2 ÷ 2.447 × 2.228 ÷ √6 is 0.223, just below ln 1.251.
    assert quartets_to_tell(1.0, math.exp(0.3), 4, 1.251) == 6
    assert quartets_to_tell(1.0, math.exp(0.3), 4, 1.001) is None


def test_one_backend_can_be_judged_alone(tmp_path: Path) -> None:
    """What was changed is not held up by the noise of what was not; a name that the baseline lacks is wrong usage."""
    before, faster = run_of({"polling": 50, "pubsub": 5}), run_of({"polling": 500, "pubsub": 1})
    runs = ["--baseline", saved(tmp_path, "before", before), "--run", saved(tmp_path, "after", faster)]
    assert CliRunner().invoke(app, ["gate", *runs]).exit_code == 1
    alone = CliRunner().invoke(app, ["gate", *runs, "--backends", "pubsub"])
    assert alone.exit_code == 0, alone.output
    assert "polling" not in alone.output
    assert CliRunner().invoke(app, ["gate", *runs, "--backends", "pigeons"]).exit_code == 2


def test_a_run_that_is_not_valid_concludes_nothing() -> None:
    """Not even when it looks worse."""
    bad = run_of({"polling": 500, "pubsub": 8}, interrupted=True)
    assert outcome_of(run_of(), bad) is Outcome.INCONCLUSIVE
    assert outcome_of(bad, run_of()) is Outcome.INCONCLUSIVE


def test_another_load_concludes_nothing() -> None:
    """What was measured has to be the same thing."""
    other = run_of()
    other["settings"] = {**other["settings"], "chunk_rate": 40.0}
    assert outcome_of(run_of(), other) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("latencies", [{"polling": 50, "pubsub": 0.8}, {"pubsub": 0.8}])
def test_a_run_of_schema_1_is_read_as_well(latencies: dict[str, float], tmp_path: Path) -> None:
    """It had one comparison, of two backends, or none."""
    made = run_of(latencies)
    older = {name: value for name, value in made.items() if name != "comparisons"}
    older |= {"schema": 1, "comparison": made["comparisons"][0] if len(latencies) > 1 else None}
    assert document.read(Path(saved(tmp_path, "older", older))) == typed(made)


def test_of_many_backends_each_ratio_that_both_runs_have_is_compared() -> None:
    """Whatever else either of them measured."""
    before, after = run_of({"polling": 50, "a": 2, "b": 1}), run_of({"polling": 50, "b": 1, "c": 2})
    assert {one.what for one in compare.changes(typed(before), typed(after))} == {"polling", "b", "b ÷ polling"}
    before, after = (run_of({"polling": 50, "a": 2, "b": 1}) for _ in range(2))
    assert {one.what for one in compare.changes(typed(before), typed(after))} == {
        "polling", "a", "b", "a ÷ polling", "b ÷ polling",
    }  # fmt: skip


def test_on_another_machine_only_the_ratio_of_the_backends_is_held_against() -> None:
    """Everything is three times slower there, and nothing regressed; pub/sub alone slower is one."""
    there = run_of({"polling": 150, "pubsub": 2.4})
    there["machine"] = {**there["machine"], "cpu": "a slow one"}
    assert outcome_of(run_of(), there) is Outcome.PASS
    there = run_of({"polling": 150, "pubsub": 24})
    there["machine"] = {**there["machine"], "cpu": "a slow one"}
    assert outcome_of(run_of(), there) is Outcome.REGRESSION


def test_a_broken_stream_more_is_a_regression() -> None:
    """Integrity needs no interval."""
    broken = run_of()
    broken["backends"]["pubsub"]["integrity"]["intact"] -= 1
    assert outcome_of(run_of(), broken) is Outcome.REGRESSION


def test_a_run_that_broke_is_a_regression_of_one_that_did_not() -> None:
    """Its verdict says so by itself; a baseline that broke says nothing."""
    assert outcome_of(run_of(), run_of(failed=1)) is Outcome.REGRESSION
    assert outcome_of(run_of(failed=1), run_of()) is Outcome.INCONCLUSIVE


def test_one_quartet_cannot_pass() -> None:
    """Without an interval nothing is known."""
    assert outcome_of(run_of(quartets=1), run_of(quartets=1)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (run_of(), 0),
        (run_of({"polling": 200, "pubsub": 3.2}), 1),
        (run_of(interrupted=True), 3),
        ({"schema": 4}, 2),
    ],
)
def test_the_gate_exits_with_what_it_found(after: dict[str, Any], code: int, tmp_path: Path) -> None:
    """0 passed, 1 regression, 2 usage, 3 inconclusive; the XML and the Markdown agree with it."""
    runs = ["--baseline", saved(tmp_path, "before", run_of()), "--run", saved(tmp_path, "after", after)]
    files = ["--junit", str(tmp_path / "gate.xml"), "--markdown", str(tmp_path / "gate.md")]
    done = CliRunner().invoke(app, ["gate", *runs, *files])
    assert done.exit_code == code, done.output
    if code == 2:
        assert "has schema 4, and this version reads 1, 2, 3" in done.output
        return
    suite = xml.parse(tmp_path / "gate.xml").getroot()
    counted = {0: ("0", "0"), 3: ("0", "1")}.get(code)
    assert counted in {(suite.get("failures"), suite.get("errors")), None}
    assert (suite.get("failures") != "0") == (code == 1)
    word = {0: "pass", 1: "regression", 3: "inconclusive"}[code]
    assert (tmp_path / "gate.md").read_text().startswith(f"### streamgauge gate: {word}")
    assert f"gate: {word}" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["gate"],
        ["gate", "--baseline", "nowhere.json"],
        ["gate", "--baseline", "x", "--metric", "speed"],
        ["compare", "a"],
    ],
)
def test_wrong_usage_is_neither_a_pass_nor_a_regression(arguments: list[str]) -> None:
    """Exit code 2."""
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_run_that_contradicts_itself_is_no_regression(tmp_path: Path) -> None:
    """One line that says what is wrong with which file, and exit code 2."""
    torn = run_of()
    del torn["backends"]["pubsub"]
    minus = run_of()
    minus["backends"]["pubsub"]["by_quartet"]["delivery_latency.p50"][0] = 0.0
    for name, made, wrong in (("torn", torn, "pubsub, which is not among"), ("minus", minus, "not above 0")):
        runs = ["--baseline", saved(tmp_path, "before", run_of()), "--run", saved(tmp_path, name, made)]
        done = CliRunner().invoke(app, ["gate", *runs])
        assert done.exit_code == 2, done.output
        assert f"{name}.json contradicts itself" in done.output
        assert wrong in done.output


@pytest.mark.parametrize(
    ("place", "value", "wrong"),
    [
        (("streams",), "many", 'backends.pubsub.streams is "many" where a whole number belongs'),
        (("by_quartet", "ttfb.p50"), [1, {}], "by_quartet.ttfb.p50.1 is an object where a number or null belongs"),
        (("ttft_s", "adjusted"), {}, "backends.pubsub.ttft_s.adjusted has no p50"),
        (("integrity",), [], "backends.pubsub.integrity is a list where an object belongs"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_the_way_to_it(
    place: tuple[str, ...], value: object, wrong: str, tmp_path: Path
) -> None:
    """Which backend's too, in our own words; and what to do."""
    made = run_of()
    *way, last = place
    reduce(getitem, way, made["backends"]["pubsub"])[last] = value
    file = saved(tmp_path, "run", made)
    with pytest.raises(document.DocumentError) as refused:
        document.read(Path(file))
    said = str(refused.value)
    assert said.startswith(f"{file} is no result of this version (")
    assert wrong in said
    assert said.endswith("take it as it was written, or run 'streamgauge bench' anew")


def test_a_verdict_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """What is no choice of a few has its value in the error."""
    with pytest.raises(document.DocumentError, match='verdict can\'t be "GOOD"'):
        document.read(Path(saved(tmp_path, "run", run_of() | {"verdict": "GOOD"})))


def test_whatever_else_goes_wrong_in_the_gate_is_no_regression(tmp_path: Path) -> None:
    """A page that can't be written after all: /dev/full takes nothing."""
    runs = [f"--{name}={saved(tmp_path, name, run_of())}" for name in ("baseline", "run")]
    done = CliRunner().invoke(app, ["gate", *runs, "--markdown", "/dev/full"])
    assert done.exit_code == 2, done.output
    assert "nothing was judged (OSError" in done.output


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_page_that_can_not_be_written_is_refused_before_the_runs_are_read(option: str, tmp_path: Path) -> None:
    """As wrong usage: exit code 1 would be a regression."""
    refused = streamgauge("gate", "--baseline", "nowhere.json", option, "no/such/folder/page", folder=tmp_path)
    assert refused.returncode == 2
    assert "make the folder no/such/folder" in refused.stderr


def test_compare_prints_ratios_with_intervals_and_what_was_not_the_same(tmp_path: Path) -> None:
    """Both runs' verdicts stand before them."""
    after = run_of({"polling": 100, "pubsub": 0.8})
    after["machine"] = {**after["machine"], "cores": 4}
    done = CliRunner().invoke(app, ["compare", saved(tmp_path, "a", run_of()), saved(tmp_path, "b", after)])
    assert done.exit_code == 0, done.output
    assert "delivery_latency.p50" in done.output
    assert "pubsub ÷ polling" in done.output
    assert "not the same machine: cores was 2 and is 4" in done.output
    assert "after: 2026-01-01T00:00:00+00:00, verdict VALID" in done.output
    assert done.output.index("verdict VALID") < done.output.index("delivery_latency.p50")


def test_compare_names_what_only_one_run_measured_and_says_what_its_figures_are(tmp_path: Path) -> None:
    """A backend does not vanish without a word, and a figure that no report has is explained."""
    before, after = run_of({"polling": 50, "a": 2}), run_of({"polling": 50, "b": 1})
    done = CliRunner().invoke(app, ["compare", saved(tmp_path, "a", before), saved(tmp_path, "b", after)])
    assert "only before has: a, which" in done.output
    assert "only after has: b, which" in done.output
    assert "Geometric means of the quartets' percentiles" in " ".join(done.output.split())
