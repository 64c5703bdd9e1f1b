// What viewers get now, from the system's own metrics.

import { LIMIT_MS, Problem, problemOf, reach } from "./api.js";
import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { $, make, telling } from "./elements.js";
import { clockTime, count, duration, series } from "./figures.js";
import { Flag } from "./flag.js";
import { parse, quantile, rise, total } from "./metrics.js";
import { tokenHeaders } from "./operator.js";
import { Polling } from "./polling.js";
import { entitle } from "./title.js";

const EVERY_MS = 2000;
const REFUSED = "These figures are their operator's: open the page by the address with the operator's token.";
const WINDOW_S = 10;
const SURE_S = WINDOW_S - 2; // less of a minute would tell nothing of it
const SHOWN_S = 120;
const DELIVERY = "streamgauge_delivery_seconds";
const FIRST_WORD = "streamgauge_first_token_seconds";
const TILES = [
  ["Viewers", ({ after }) => count(total(after, "streamgauge_viewers"))],
  ["Chunks a second", ({ before, after, s }) => count(rise(before, after, "streamgauge_events_sent_total") / s)],
  ["Messages a minute", messagesAMinute],
  ["Resumes so far", ({ after }) => count(total(after, "streamgauge_resumes_total"))],
  ["Waiting for a worker", ({ after }) => count(total(after, "streamgauge_queue_depth"))],
  ["Event loop late by", ({ after }) => duration(1000 * total(after, "streamgauge_api_loop_lag_seconds"))],
];

function messagesAMinute({ before, after, s }) {
  return s < SURE_S ? "measuring" : count((60 * rise(before, after, "streamgauge_messages_posted_total")) / s);
}

export class Live {
  constructor(system) {
    Object.assign(this, { readings: [], rates: [], tails: [], backends: system.backends });
    this.flag = new Flag(system);
    this.polling = new Polling({ everyMs: EVERY_MS, look: () => this.#read(), waits: (at) => (this.nextAt = at) });
    addEventListener("visibilitychange", () => this.#rest());
    this.tiles = TILES.map(([name]) => {
      const figure = make("dd", {}, "–");
      $("tiles").append(make("dl", { className: "panel tile" }, make("dt", {}, name), figure));
      return figure;
    });
    this.rows = this.backends.map((backend, place) => this.#row(backend, place));
    const redraw = () => this.#draw();
    this.#offerHints();
    this.throughput = new Chart($("throughput"), { seconds: SHOWN_S, redraw, linear: (value) => count(value, 1) });
    this.latency = new Chart($("latency"), { seconds: SHOWN_S, redraw });
    const links = Object.entries(system.links).map(([name, href]) => make("a", { href, rel: "noreferrer" }, name));
    $("links").append(...links);
  }

  /** Say whose colour is which, and that the table goes on where the screen ends. */
  #offerHints() {
    for (const [place, backend] of this.backends.entries()) {
      const entry = make("li", {}, backend);
      entry.style.setProperty("--series", series(place));
      $("legend").append(entry);
    }
    const region = $("backends-region");
    const measure = () => ($("sideways").hidden = region.scrollWidth <= region.clientWidth);
    for (const each of [region, $("backends")]) new ResizeObserver(measure).observe(each);
  }

  #row(backend, place) {
    const figures = Array.from({ length: 6 }, () => make("td", {}, "–"));
    const row = make("tr", {}, make("th", { scope: "row" }, backend), ...figures);
    row.style.setProperty("--series", series(place));
    $("backends").tBodies[0].append(row);
    return figures;
  }

  show() {
    this.flag.show();
    this.polling.start();
    this.listening = setInterval(() => this.#tellSilence(), 1000);
  }

  hide() {
    this.flag.hide();
    this.#stopReading();
  }

  #stopReading() {
    this.polling.stop();
    clearInterval(this.listening);
    this.unheard = undefined;
    this.#tellSilence();
  }

  /** While nobody sees the tab nothing is asked, and so nothing can be missed. */
  #rest() {
    if (document.hidden) this.unheard = undefined;
    this.#tellSilence();
  }

  /** Look once; tell whether a reading came. */
  async #read() {
    this.unheard ??= { since: now(), failed: false };
    const read = await telling($("live-alert"), () => this.#take());
    if (read) this.unheard = undefined;
    else if (this.unheard) this.unheard.failed = true;
    this.#tellSilence();
    return Boolean(read);
  }

  /** Take one reading. What is from long before, as after a rest, says nothing of now. */
  async #take() {
    const response = await reach("metrics", { headers: tokenHeaders() });
    if ([401, 403].includes(response.status)) {
      this.#stopReading();
      throw new Problem(REFUSED, response.status);
    }
    if (!response.ok) throw await problemOf(response);
    const metrics = parse(await response.text());
    const at = now() / 1000;
    this.readings = [...this.readings.filter((each) => each.at > at - WINDOW_S - 1), { at, metrics }];
    this.#show();
    return true;
  }

  /** Say for how long nothing was heard, once a look has failed or takes long; and that the figures are from before. */
  #tellSilence() {
    const { since, failed } = this.unheard ?? {};
    const isSilent = failed || now() - since > LIMIT_MS;
    const last = this.readings.at(-1);
    const silence = Math.round((now() - since) / 1000);
    const isOld = last && now() / 1000 - last.at > WINDOW_S;
    const left = Math.ceil((this.nextAt - Date.now()) / 1000);
    const told = [
      isSilent && `No word for ${silence} s.`,
      last && (isSilent || isOld) && `The figures are of ${clockTime(1000 * last.at)}.`,
      isSilent && left > 0 && `The next try is in ${left} s.`,
    ];
    $("live-silence").textContent = told.filter(Boolean).join(" ");
    $("live").classList.toggle("is-stale", Boolean(isSilent || isOld));
    entitle("live", isSilent && "No word", "Live");
  }

  #show() {
    const [{ at: from, metrics: before }] = this.readings;
    const { at, metrics: after } = this.readings.at(-1);
    const span = { before, after, s: at - from };
    TILES.forEach(([, tell], place) => (this.tiles[place].textContent = tell(span)));
    const found = this.backends.map((backend) => this.#figures(span, backend));
    found.forEach((figures, place) => this.#write(this.rows[place], figures));
    this.rates.push([at, found.map((figures) => figures.rate)]);
    this.tails.push([at, found.map((figures) => figures.p99)]);
    for (const kept of [this.rates, this.tails]) while (kept[0][0] < at - SHOWN_S) kept.shift();
    this.#draw();
  }

  #figures({ before, after, s }, backend) {
    const ms = (name, share) => 1000 * quantile(before, after, name, backend, share);
    return {
      viewers: total(after, "streamgauge_viewers", backend),
      rate: s ? rise(before, after, "streamgauge_events_sent_total", backend) / s : NaN,
      p50: ms(DELIVERY, 0.5),
      p95: ms(DELIVERY, 0.95),
      p99: ms(DELIVERY, 0.99),
      first: ms(FIRST_WORD, 0.5),
    };
  }

  #write(cells, { p50, p95, p99, rate, viewers, first }) {
    const texts = [...[p50, p95, p99].map(duration), count(rate, 1), count(viewers), duration(first)];
    texts.forEach((text, place) => (cells[place].textContent = text));
  }

  #draw() {
    const at = this.rates.at(-1)?.[0] ?? now() / 1000;
    const highest = Math.max(1, ...this.rates.flatMap(([, values]) => values.filter(Number.isFinite)));
    this.throughput.begin(at, { highest });
    this.latency.begin(at);
    for (const place of this.backends.keys()) {
      this.throughput.line(this.rates.map(([when, values]) => [when, values[place]]), place);
      this.latency.line(this.tails.map(([when, values]) => [when, values[place]]), place);
    }
  }
}
