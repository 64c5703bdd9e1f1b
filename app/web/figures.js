// Numbers as people read them, and percentiles.

export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  const sign = ms < 0 ? "−" : "";
  const size = Math.abs(ms);
  if (size < 0.9995) return `${sign}${Math.round(size * 1000)} µs`;
  if (size < 999.5) return `${sign}${size.toPrecision(3)} ms`;
  return `${sign}${(size / 1000).toPrecision(3)} s`;
}

export function count(value, digits = 0) {
  return Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "–";
}

/** The smallest value that this share of the values does not exceed. */
export function percentile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** The colour of a backend, by its place among those offered. */
export const series = (place) => `var(--series-${place % 5})`;
