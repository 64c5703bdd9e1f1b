"""When the flag changed: marked on every page where a change of backend shows."""

from app.telemetry import metrics
from dashboards.panels import Marks
from dashboards.promql import name_of, selector

GENERATION = selector(name_of(metrics.FLAG_GENERATION))
# Above what any process followed in the minute before: one that starts again, or is behind, marks nothing.
FLIPS = Marks("Flag changed", f"max({GENERATION}) > max(max_over_time({GENERATION}[1m] offset 1m))")
