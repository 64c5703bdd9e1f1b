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

/** A moment, in ms since 1970, as the clock on the wall has it. */
export const clockTime = (at) => new Date(at).toLocaleTimeString();

/** "1 chunk", "2 chunks". */
export const plural = (value, what) => `${count(value)} ${what}${value === 1 ? "" : "s"}`;

/** The smallest value that this share of the values does not exceed. */
export function percentile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/**
 * Values by name in order, for people: "a 1 ms ≈ b 1.2 ms < c 9 ms". What differs by no more than `bound` from the first of
 * those beside it is no different, nor is what lies below it.
 */
export function ranking(values, bound) {
  const sorted = [...values].sort(([, a], [, b]) => a - b);
  let first = -Infinity;
  const parts = sorted.map(([name, value], place) => {
    const isEqual = place > 0 && (value - first <= bound || value <= bound);
    if (!isEqual) first = value;
    return `${place === 0 ? "" : isEqual ? " ≈ " : " < "}${name} ${duration(value)}`;
  });
  return parts.join("");
}

/** The colour of a backend, by its place among those offered. */
export const series = (place) => `var(--series-${place % 5})`;
