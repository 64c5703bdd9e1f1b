"""A soak minute by minute, so that what grows or slows down is seen: pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtest.clock import Offset
from loadtest.summary import Measured, delivery_latency, per_stream, ttft_ns
from loadtest.wording import enough

SLICE_S, LEAST_SLICES = 60.0, 6
LEAST_SLICE_S = 2.0
"""The processes are looked at once a second: a shorter slice may have seen nothing of them."""


class ProcessSample(msgspec.Struct, frozen=True):
    """Resident memory of the system's processes, by name, and the processor time they have used, at one instant."""

    at_ns: int
    rss_bytes: Mapping[str, int]
    cpu_s: Mapping[str, float] = {}


def slices(
    streams: Sequence[Measured], processes: Sequence[ProcessSample], offset: Offset, soak_s: float | None
) -> list[dict[str, Any]]:
    """One entry a minute of a backend's block, by the streams that began in it.

    Of a short soak, one a sixth of it, and of two seconds at least.
    """
    if soak_s is None or not streams:
        return []
    began_ns = min(one.row.intended_ns for one in streams)
    slice_s = min(SLICE_S, max(LEAST_SLICE_S, soak_s / LEAST_SLICES))
    found = []
    for number in range(math.ceil(soak_s / slice_s - 1e-9)):
        low, high = (began_ns + round(place * slice_s * 1e9) for place in (number, number + 1))
        inside = [one for one in streams if low <= one.row.intended_ns < high]
        latency = delivery_latency(inside, offset)
        found.append(
            {
                "at_s": number * slice_s,
                "streams": len(inside),
                "intact": sum(one.good for one in inside),
                "ttft_p50_s": per_stream(inside, ttft_ns).percentile_s(50),
                "delivery_latency_p50_s": latency.percentile_s(50),
                "delivery_latency_p99_s": latency.percentile_s(99) if enough(latency.count, 99) else None,
                "rss_bytes": _most([one.rss_bytes for one in processes if low <= one.at_ns < high]),
            }
        )
    return found


def _most(samples: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = sorted({name for one in samples for name in one})
    return {name: max(one.get(name, 0) for one in samples) for name in names}
