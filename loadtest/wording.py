"""Numbers as they are read: a duration with its unit, a count, an amount of memory."""


def seconds(value: float | None) -> str:
    """A duration with a unit fit to read."""
    if value is None:
        return "–"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def signed_seconds(value: float | None) -> str:
    """The same of what may be below zero."""
    return seconds(value) if value is None or value >= 0 else f"−{seconds(-value)}"


def number(value: float | None) -> str:
    """A count or a rate fit to read."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def mebibytes(value: int | None) -> str:
    """An amount of memory fit to read."""
    return "–" if value is None else f"{value / 2**20:.0f} MiB"
