"""What the flips of a run did, as sentences and tables for the terminal, report.md and the page. No arithmetic."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as Shown

from loadtest.continuity import KINDS
from loadtest.flip_figures import EVERY
from loadtest.page import Section, Table
from loadtest.wording import counted, number, seconds

PHASES = ("before", "during", "after")
HEADS = [
    "flip", "at", "", "in force after", "to first POST", "to its first chunk", "posted until next", "rerouted", "late",
    "open across", "of these intact", "handed over", *(f"{name}, p50 / p99" for name in PHASES),
]  # fmt: skip
SHORT = ("", "flip", "first chunk", "late", "intact", "before", "during", "after")
"""The heads on the terminal, which has less room."""
FINDINGS_SHOWN = 20
MEANING = (
    "In force after: how long the command took. To first POST: from then until the first message was posted that got "
    "the new backend (that is above all when the next message came), and to its first chunk at the client.",
    "Before, during, after: delivery latency of all backends' chunks in the second before the flip, the one that it "
    "begins and the one after that; where the chunk store was lost, `during` ends once messages may go there again.",
    "Open across: streams that ran when the flag was flipped. They stay where they are, save those that are handed "
    "over when the store is lost, be it at a later flip.",
)


def verdict(made: Mapping[str, Any]) -> str:
    """Whether the flips cost anything, in a sentence."""
    broken = made["continuity"]["broken"]
    if not broken:
        return "Continuity held: the flips cost no stream anything."
    return f"Continuity is broken: {', '.join(f'{count} {kind}' for kind, count in broken.items())}."


def sentences(made: Mapping[str, Any]) -> list[str]:
    """The findings; none of a run without flips."""
    flips, account = made.get("flips"), made.get("continuity")
    if not flips or not account:
        return []
    waits = [one["to_first_content_s"] for one in flips if one["to_first_content_s"] and one["store_lost_s"] is None]
    said = [
        verdict(made),
        f"{counted(len(flips), 'flip')} over {counted(len(account['pairs']), 'ordered pair')} of backends; "
        f"{counted(account['messages'], 'message')} with {counted(account['viewers'], 'viewer')}, "
        f"{account['intact']} of them intact, {counted(account['resumed'], 'resumed connection')}.",
        "No message posted after a flip got the backend before it."
        if "late" not in account["broken"]
        else f"{counted(account['broken']['late'], 'message')} posted after a flip got the backend before it.",
    ]
    if waits:
        said.append(
            f"From a flip to the first chunk on the new backend: {seconds(min(waits))} to {seconds(max(waits))}, the "
            "wait for somebody to ask included."
        )
    return said + [_loss(one, account) for one in flips if one["store_lost_s"] is not None]


def _loss(flip: Mapping[str, Any], account: Mapping[str, Any]) -> str:
    told = account["handovers_counted"]
    agrees = "" if told is None else f" (the workers counted {told})"
    return (
        f"The chunk store was killed at the flip {flip['before']} → {flip['backend']} and came back empty after "
        f"{seconds(flip['store_lost_s'])}: that meant {counted(account['handed_over'], 'hand-over')}{agrees}, "
        f"{counted(account['rerouted'], 'new message')} to the safe backend, and "
        f"{counted(account['begun_anew'], 'viewer')} told to begin anew."
    )


def markdown(made: Mapping[str, Any]) -> list[str]:
    """The section of report.md."""
    if not made.get("continuity"):
        return []
    lines = ["", "## Flips", "", *(f"- {sentence}" for sentence in sentences(made)), ""]
    lines += [*_broken(made), "", *_rows(HEADS, _flips(made["flips"])), "", *(f"{one}  " for one in MEANING)]
    lines += ["", "### Delivery latency around each flip, by backend", ""]
    return [*lines, *_rows(AROUND_HEADS, _around(made["flips"]))]


def sections(made: Mapping[str, Any]) -> list[Section]:
    """The same on the page."""
    if not made.get("continuity"):
        return []
    tables = [
        ("Every flip", Table(HEADS, _flips(made["flips"]))),
        ("Delivery latency around each flip, by backend", Table(AROUND_HEADS, _around(made["flips"]))),
    ]
    return [Section("Flips", [*_broken(made), *MEANING], tables=tables)]


def show(made: Mapping[str, Any], console: Console) -> None:
    """The same on the terminal, as far as it fits."""
    if not made.get("continuity"):
        return
    title = "Flips under load: streams intact of those open across, delivery p99 before, during and after"
    table = Shown(title=title, title_justify="left")
    for head in SHORT:
        table.add_column(head, justify="left" if head == "flip" else "right")
    for place, one in enumerate(made["flips"], start=1):
        table.add_row(
            str(place),
            f"{one['before']} → {one['backend']}" + ("" if one["store_lost_s"] is None else " ✕"),
            seconds(one["to_first_content_s"]),
            number(one["late"]),
            f"{one['open_intact']} of {one['open']}",
            *(seconds(one["delivery_latency_s"][phase][EVERY]["p99"]) for phase in PHASES),
        )
    console.print(table)
    colour = "red" if made["continuity"]["broken"] else "green"
    first, *others = sentences(made) or [verdict(made)]
    console.print(f"[bold {colour}]{first}[/]", highlight=False, soft_wrap=True)
    for line in [*others, *_broken(made)]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _broken(made: Mapping[str, Any]) -> list[str]:
    account = made["continuity"]
    kinds = [f"{count} {kind}: {KINDS[kind]}." for kind, count in account["broken"].items()]
    more = len(account["findings"]) - FINDINGS_SHOWN
    return [*kinds, *account["findings"][:FINDINGS_SHOWN], *([f"… and {more} more in result.json"] if more > 0 else [])]


def _flips(flips: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [
            str(place),
            f"{one['at_s']:.1f} s",
            f"{one['before']} → {one['backend']}" + ("" if one["store_lost_s"] is None else ", store killed"),
            *(seconds(one[key]) for key in ("took_s", "to_first_post_s", "to_first_content_s")),
            *(number(one[key]) for key in ("posted", "rerouted", "late", "open", "open_intact", "open_handed_over")),
            *(_pair(one["delivery_latency_s"][name][EVERY]) for name in PHASES),
        ]
        for place, one in enumerate(flips, start=1)
    ]


AROUND_HEADS = ["flip, backend", *(f"{name}: {head}" for name in PHASES for head in ("chunks", "p50", "p99"))]


def _around(flips: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for place, one in enumerate(flips, start=1):
        by_phase = one["delivery_latency_s"]
        names = sorted({name for phase in PHASES for name in by_phase[phase]} - {EVERY})
        for name in names:
            spreads = [by_phase[phase].get(name) for phase in PHASES]
            rows.append([f"{place}, {name}", *(cell for spread in spreads for cell in _cells(spread))])
    return rows


def _cells(spread: Mapping[str, Any] | None) -> list[str]:
    if spread is None:
        return ["0", "–", "–"]
    return [number(spread["count"]), seconds(spread["p50"]), seconds(spread["p99"])]


def _pair(spread: Mapping[str, Any]) -> str:
    return f"{seconds(spread['p50'])} / {seconds(spread['p99'])}"


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
