// Prometheus's text format, and what two readings of it tell: rates, and percentiles from histogram buckets.

const LINE = /^([a-z_]\w*)(?:\{(.*)\})? (\S+)/i;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Read an exposition: a map from a metric's name to its samples, [{labels, value}]. */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const [, name, inside = "", value] = match;
    const labels = Object.fromEntries([...inside.matchAll(LABEL)].map(([, key, told]) => [key, told]));
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels, value: value === "+Inf" ? Infinity : Number(value) });
  }
  return found;
}

/** Sum a metric's samples, all of them or one backend's. */
export function total(reading, name, backend) {
  const samples = (reading.get(name) ?? []).filter(({ labels }) => !backend || labels.backend === backend);
  return samples.reduce((sum, { value }) => sum + value, 0);
}

/** How much a counter rose from one reading to a later one; nothing is known across a restart. */
export function rise(before, after, name, backend) {
  const by = total(after, name, backend) - total(before, name, backend);
  return by < 0 ? NaN : by;
}

/** The value below which this share of what was observed between two readings lies; NaN if that was nothing. */
export function quantile(before, after, name, backend, share) {
  const earlier = counts(before, name, backend);
  const buckets = [...counts(after, name, backend)].map(([le, count]) => [le, count - (earlier.get(le) ?? 0)]);
  buckets.sort(([a], [b]) => a - b);
  const wanted = share * (buckets.at(-1)?.[1] ?? 0);
  if (!(wanted > 0)) return NaN;
  const place = buckets.findIndex(([, count]) => count >= wanted);
  const [lower, below] = place ? buckets[place - 1] : [0, 0];
  const [upper, count] = buckets[place];
  return upper === Infinity ? lower : lower + ((upper - lower) * (wanted - below)) / (count - below);
}

function counts(reading, name, backend) {
  const found = new Map();
  for (const { labels, value } of reading.get(`${name}_bucket`) ?? []) {
    if (labels.backend !== backend) continue;
    const le = labels.le === "+Inf" ? Infinity : Number(labels.le);
    found.set(le, (found.get(le) ?? 0) + value);
  }
  return found;
}
