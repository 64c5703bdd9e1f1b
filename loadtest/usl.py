"""The Universal Scalability Law fitted to measured points: how contention and crosstalk bend throughput. Pure.

    X(N) = λN / (1 + σ(N − 1) + κN(N − 1))

N. J. Gunther, *Guerrilla Capacity Planning* (Springer, 2007). λ is the throughput of one stream alone, σ the share of
the work that has to wait in turn, κ the cost of keeping each two in step; with κ above 0 there is a peak.
Least squares on X itself, by Levenberg and Marquardt's method, with σ and κ held at 0 or above; the standard errors are
the usual ones of nonlinear regression, from the Jacobian at the optimum.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from loadtest.stats import t_95

PARAMETERS = ("lambda", "sigma", "kappa")
LEAST_LEVELS = 5
"""Three parameters go through any three points: only what is left over says whether the law holds."""
MOST_RESIDUAL = 0.1
"""Of the highest throughput measured."""
BENT = 0.9
"""Above this share of what λ promises, the points are a straight line, and tell nothing of σ and κ."""
FAR = 2.0
"""A peak farther beyond the largest load than this is a guess."""
STEPS = 200

Point = tuple[float, float]


class Fit(msgspec.Struct, frozen=True, rename={"lambda_": "lambda"}):
    """The law's parameters with 95 % intervals (half widths; null without spare points), and how well they fit.

    `peak_n` is null where no peak lies ahead. `doubts` say why the fit is not to be trusted; none means it may be.
    """

    lambda_: float
    sigma: float
    kappa: float
    half_widths: dict[str, float | None]
    peak_n: float | None
    peak_x: float | None
    residuals: list[float]
    r_squared: float | None
    doubts: list[str]

    def at(self, streams: float) -> float:
        """The throughput that the law expects."""
        return throughput((self.lambda_, self.sigma, self.kappa), streams)


def throughput(parameters: Sequence[float], streams: float) -> float:
    """X(N)."""
    lambda_, sigma, kappa = parameters
    return lambda_ * streams / (1 + sigma * (streams - 1) + kappa * streams * (streams - 1))


def fit(points: Sequence[Point]) -> Fit | None:
    """The best parameters; null for fewer than three different loads, or where nothing came through."""
    levels = {streams for streams, _ in points}
    if len(levels) < len(PARAMETERS) or not any(made > 0 for _, made in points):
        return None
    # At a bound the derivative does not vanish, so each way of holding parameters at 0 is fitted and the best one kept.
    ways = [_fit(points, free) for free in ((0, 1, 2), (0, 1), (0, 2), (0,))]
    best, free = min((way for way in ways if min(way[0]) >= 0), key=lambda way: _squares(points, way[0]))
    residuals = [made - throughput(best, streams) for streams, made in points]
    mean = sum(made for _, made in points) / len(points)
    spread = sum((made - mean) ** 2 for _, made in points)
    peak = math.sqrt((1 - best[1]) / best[2]) if best[2] > 0 and best[1] < 1 else None
    return Fit(
        lambda_=best[0],
        sigma=best[1],
        kappa=best[2],
        half_widths=_half_widths(points, best, free),
        peak_n=peak,
        peak_x=None if peak is None else throughput(best, peak),
        residuals=residuals,
        r_squared=1 - sum(one**2 for one in residuals) / spread if spread else None,
        doubts=_doubts(points, best, residuals, peak),
    )


def _doubts(
    points: Sequence[Point], best: Sequence[float], residuals: Sequence[float], peak: float | None
) -> list[str]:
    levels = {streams for streams, _ in points}
    largest = max(levels)
    found = []
    if len(levels) < LEAST_LEVELS:
        found.append(f"{len(levels)} different loads are too few for three parameters: {LEAST_LEVELS} or more")
    if throughput(best, largest) > BENT * best[0] * largest:
        found.append("throughput still grows in step with the load, so σ and κ cannot be told: go higher with --limit")
    worst = max(map(abs, residuals)) / max(made for _, made in points)
    if worst > MOST_RESIDUAL:
        found.append(f"a point lies {worst:.0%} of the highest throughput off the curve: this is not the law's shape")
    if peak is not None and peak > FAR * largest:
        found.append(f"the peak at {peak:,.0f} lies beyond {FAR:g} times the largest load measured, {largest:,.0f}")
    return found


def _fit(points: Sequence[Point], free: Sequence[int]) -> tuple[list[float], Sequence[int]]:
    """Marquardt's descent: large steps where they help, small and safe ones where they don't."""
    largest = max(streams for streams, _ in points)
    start = [max(made / streams for streams, made in points), 0.01, 1 / largest**2]
    best = [value if index in free else 0.0 for index, value in enumerate(start)]
    squares, damping = _squares(points, best), 1e-3
    for _ in range(STEPS):
        slopes = [[_slope(best, index, streams) for index in free] for streams, _ in points]
        left = [made - throughput(best, streams) for streams, made in points]
        normal = _normal(slopes)
        toward = [sum(row[one] * rest for row, rest in zip(slopes, left, strict=True)) for one in range(len(free))]
        damped = [
            [value * (1 + damping * (row == column)) for column, value in enumerate(values)]
            for row, values in enumerate(normal)
        ]
        step = solve(damped, toward)
        if step is None:
            break
        tried = list(best)
        for index, change in zip(free, step, strict=True):
            tried[index] += change
        there = _squares(points, tried)
        if not there < squares:
            damping *= 10
            if damping > 1e12:
                break
            continue
        best, squares, damping = tried, there, max(1e-12, damping / 10)
    return best, free


def _half_widths(points: Sequence[Point], best: Sequence[float], free: Sequence[int]) -> dict[str, float | None]:
    widths: dict[str, float | None] = dict.fromkeys(PARAMETERS)
    spare = len(points) - len(free)
    if spare < 1:
        return widths
    normal = _normal([[_slope(best, index, streams) for index in free] for streams, _ in points])
    variance = _squares(points, best) / spare
    for place, index in enumerate(free):
        column = solve(normal, [float(place == other) for other in range(len(free))])
        if column is not None and column[place] >= 0:
            widths[PARAMETERS[index]] = t_95(spare) * math.sqrt(variance * column[place])
    return widths


def _slope(parameters: Sequence[float], index: int, streams: float) -> float:
    """How X changes with one parameter."""
    lambda_, sigma, kappa = parameters
    below = 1 + sigma * (streams - 1) + kappa * streams * (streams - 1)
    slopes: tuple[Callable[[], float], ...] = (
        lambda: streams / below,
        lambda: -lambda_ * streams * (streams - 1) / below**2,
        lambda: -lambda_ * streams * streams * (streams - 1) / below**2,
    )
    return slopes[index]()


def _squares(points: Sequence[Point], parameters: Sequence[float]) -> float:
    return sum((made - throughput(parameters, streams)) ** 2 for streams, made in points)


def _normal(slopes: Sequence[Sequence[float]]) -> list[list[float]]:
    size = range(len(slopes[0]))
    return [[sum(row[one] * row[two] for row in slopes) for two in size] for one in size]


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float] | None:
    """Gaussian elimination with pivots, for a few unknowns; null where there is no one answer."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for pivot in range(size):
        top = max(range(pivot, size), key=lambda row: abs(rows[row][pivot]))
        rows[pivot], rows[top] = rows[top], rows[pivot]
        if not rows[pivot][pivot]:
            return None
        for row in range(pivot + 1, size):
            share = rows[row][pivot] / rows[pivot][pivot]
            rows[row] = [below - share * above for below, above in zip(rows[row], rows[pivot], strict=True)]
    found = [0.0] * size
    for row in reversed(range(size)):
        rest = sum(rows[row][column] * found[column] for column in range(row + 1, size))
        found[row] = (rows[row][size] - rest) / rows[row][row]
    return found
