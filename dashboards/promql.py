"""The PromQL of the panels, made from the app's metric constants so that a name can't be mistyped.

A metric that is not the app's (an exporter's, the load generator's) is given by name: a counter's with its `_total`.
"""

from prometheus_client import Counter, Gauge, Histogram, Info

Metric = Counter | Gauge | Histogram | Info

SELECTED = 'job=~"$job", instance=~"$instance"'
"""Every selector has these variables of the page; Prometheus calls each process of ours an instance."""
CHOSEN = 'backend=~"$backend"'
"""And so has every one whose series are told apart by backend. No backend is named: a new one shows by itself."""


def name_of(metric: Metric) -> str:
    """Give the metric's name without the suffix that the exposition adds."""
    return str(next(iter(metric.describe())).name)


def rate(counter: Counter | str, *by: str, where: str = "") -> str:
    """Events per second, summed over processes."""
    return f"sum{_by(by)} (rate({_chosen(_series(counter, '_total'), by, where)}[$__rate_interval]))"


def share(counter: Counter, of: Counter, *, where: str = "", side: str = "") -> str:
    """The part of what `of` counts on this side; 0 before the first, for a counter that is not there counts none."""
    return f"({rate(counter, where=', '.join(filter(None, [side, where])))} or vector(0)) / {rate(of, where=side)}"


def total(gauge: Gauge | Info | str, *by: str, where: str = "") -> str:
    """The gauge's sum over processes."""
    return f"sum{_by(by)} ({_chosen(_series(gauge, '_info' if isinstance(gauge, Info) else ''), by, where)})"


def largest(gauge: Gauge | str, *by: str, where: str = "") -> str:
    """The gauge's value in the process where it is largest."""
    return f"max{_by(by)} ({_chosen(_series(gauge), by, where)})"


def quantile(fraction: float, histogram: Histogram | str, *by: str, where: str = "") -> str:
    """A quantile, exact to its bucket: at most a factor of the square root of 2."""
    buckets = _chosen(f"{_series(histogram)}_bucket", by, where)
    return f"histogram_quantile({fraction}, sum{_by(('le', *by))} (rate({buckets}[$__rate_interval])))"


def buckets(histogram: Histogram | str) -> str:
    """Observations per bucket of the chosen backends, for a heatmap of one."""
    return f"sum by (le) (increase({selector(f'{_series(histogram)}_bucket', CHOSEN)}[$__rate_interval]))"


def selector(name: str, where: str = "") -> str:
    """Select a series of the chosen processes, narrowed by `where`."""
    return f"{name}{{{SELECTED}{', ' if where else ''}{where}}}"


def _series(metric: Metric | str, suffix: str = "") -> str:
    return metric if isinstance(metric, str) else f"{name_of(metric)}{suffix}"


def _chosen(name: str, by: tuple[str, ...], where: str) -> str:
    return selector(name, ", ".join(part for part in (CHOSEN if "backend" in by else "", where) if part))


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
