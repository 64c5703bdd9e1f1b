"""What only some scenarios are about: distributions with names of their own, each made where it has something. Pure.

A new one is one entry of `EXTRAS`: its sentence for the report, and how it is made of a backend's streams.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from loadtest.clock import Offset
from loadtest.live import live
from loadtest.recorder import StreamRow
from loadtest.stats import Distribution
from loadtest.summary import Measured, delivery_latency

_Make = Callable[[Sequence[Measured], Offset], Distribution]


class Extra(NamedTuple):
    """One more distribution."""

    meaning: str
    make: _Make


def distributions(streams: Sequence[Measured], offset: Offset) -> dict[str, Distribution]:
    """Every extra distribution that has a value, or a stream that should have given one."""
    made = ((name, extra.make(streams, offset)) for name, extra in EXTRAS.items())
    return {name: spread for name, spread in made if spread.count or spread.lost}


def _resume(streams: Sequence[Measured], _offset: Offset) -> Distribution:
    def waits(row: StreamRow) -> Iterable[int]:
        # A connection that broke before it brought anything has no first event of its own.
        ends = [*(one.events_before for one in row.resumes[1:]), len(row.kinds)]
        for one, end in zip(row.resumes, ends, strict=True):
            if one.events_before < end:
                yield row.received_ns[one.events_before] - one.opened_ns

    return _of(waits, (one for one in streams if one.row.resumes))


def _catch_up(streams: Sequence[Measured], offset: Offset) -> Distribution:
    def waits(row: StreamRow) -> Iterable[int]:
        waited = [at_ns for at_ns, is_live in zip(row.received_ns, live(row, offset), strict=True) if not is_live]
        if waited and row.opened_ns:
            yield max(waited) - row.opened_ns

    return _of(waits, (one for one in streams if one.row.viewer and not one.row.slow))


def _cancel(streams: Sequence[Measured], _offset: Offset) -> Distribution:
    def waits(row: StreamRow) -> Iterable[int]:
        if row.terminal_ns and row.cancelled_ns and row.kinds[-1] == "cancelled":
            yield row.terminal_ns - row.cancelled_ns

    return _of(waits, (one for one in streams if one.row.cancelled_ns))


def _apart(streams: Sequence[Measured], offset: Offset) -> Distribution:
    arrived: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for row in (one.row for one in streams if one.good and not one.row.slow):
        for index, at_ns, is_live in zip(row.indexes, row.received_ns, live(row, offset), strict=True):
            if is_live:
                arrived[row.block, row.arrival, index].append(at_ns)
    return Distribution(max(seen) - min(seen) for seen in arrived.values() if len(seen) > 1)


def _slow(streams: Sequence[Measured], offset: Offset) -> Distribution:
    return delivery_latency((one for one in streams if one.row.slow), offset)


def _beside_slow(streams: Sequence[Measured], offset: Offset) -> Distribution:
    return _ordinary(streams, offset, beside=True)


def _without_slow(streams: Sequence[Measured], offset: Offset) -> Distribution:
    return _ordinary(streams, offset, beside=False)


def _ordinary(streams: Sequence[Measured], offset: Offset, *, beside: bool) -> Distribution:
    blocks = {one.row.block for one in streams if one.row.slow}
    wanted = [one for one in streams if blocks and not one.row.slow and (one.row.block in blocks) is beside]
    return delivery_latency(wanted, offset)


def _of(values: Callable[[StreamRow], Iterable[int]], streams: Iterable[Measured]) -> Distribution:
    found = Distribution()
    for one in streams:
        if not one.good:
            found.lost += 1
            continue
        for value in values(one.row):
            found.add(value)
    return found


EXTRAS = {
    "resume_latency": Extra(
        "GET with the last event id → first new event, one that had waited for the viewer", _resume
    ),
    "catch_up_latency": Extra("GET of a late viewer → all that was there before it came has arrived", _catch_up),
    "viewer_skew": Extra("an event at its first viewer → the same event at its last", _apart),
    "cancel_latency": Extra("POST of the cancel → the terminal `cancelled` at the viewer", _cancel),
    "delivery_latency_slow": Extra("delivery to the viewers who read slowly: their own doing", _slow),
    "delivery_latency_beside_slow": Extra("delivery to the others while slow viewers were there", _beside_slow),
    "delivery_latency_without_slow": Extra("the same in the blocks without slow viewers", _without_slow),
}
