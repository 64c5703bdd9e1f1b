// One backend's lane of a race: its text, its figures and the latency of each chunk.

import { ask, begin, cancel, post } from "./api.js";
import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { copyOf } from "./elements.js";
import { count, duration, percentile, series } from "./figures.js";
import { Following } from "./following.js";
import { Paper } from "./paper.js";

const SHOWN_S = 12;
const SHOWN_DOTS = 3000;
const CUT_MS = 1000;
const SILENCE_MS = 2000;
const IN_TURN = "in turn";
const TOOK_TURNS = "took turns at connections";
const LOST = "lost its connection";
const STREAMING = "streaming";

export class Lane {
  constructor(backend, place) {
    Object.assign(this, { backend, place, arrivals: [], isRunning: false });
    this.element = copyOf("lane-template");
    this.element.style.setProperty("--series", series(place));
    this.element.querySelector("h2").textContent = backend;
    this.element.querySelector(".lane-text").setAttribute("aria-label", `Text by ${backend}`);
    this.paper = new Paper(this.element.querySelector(".text"));
    const canvas = this.element.querySelector("canvas");
    Object.assign(this, { canvas, marks: [] });
    this.chart = new Chart(canvas, { seconds: SHOWN_S, redraw: () => this.draw() });
    this.#describe();
    this.figures = {};
    for (const each of this.element.querySelectorAll("[data-figure]")) this.figures[each.dataset.figure] = each;
  }

  /** Run one race to its end, by this clock. */
  async run(prompt, model, clock) {
    Object.assign(this, { arrivals: [], chunks: 0, resumes: 0, first: NaN, gap: NaN, clock, isRunning: true });
    Object.assign(this, { marks: [], begun: now(), heardAt: now(), excuse: "failed", isStopped: false });
    Object.assign(this, { hindrance: "", isCut: false });
    this.#describe();
    this.task = null;
    this.pinned = this.backend; // until the flag is known to say otherwise
    this.paper.set("");
    this.#judge("");
    this.#say("posting");
    try {
      const { id } = await begin(`Race: ${prompt}`.slice(0, 200));
      this.asked = now();
      this.task = (await post(id, prompt, { model, backend: this.backend })).task_id;
      await Promise.all([this.#follow(id), this.#mindTheFlag(id)]);
    } catch (error) {
      this.#say("failed");
      throw error;
    } finally {
      this.isRunning = false;
      this.stillAt = now();
      this.#describe();
      this.show();
      this.draw();
    }
  }

  async #follow(conversation) {
    let ending;
    this.following = new Following(this.task, {
      opened: (at, isResumed) => this.#opened(at, isResumed),
      content: (record, at) => this.#take(record, at),
      reset: () => this.paper.set(""),
      state: (name) => this.#hear(name),
      end: (record, why) => (ending = [record, why]),
    });
    this.#say("waiting");
    await this.following.run();
    if (ending) await this.#check(conversation, ...ending);
  }

  /** The flag has the last word: rolled back, it sends everything by the safe backend, whatever is asked for. */
  async #mindTheFlag(conversation) {
    const asked = { backend: this.backend }; // what is assumed where nobody can tell
    const { backend } = await this.#message(conversation).catch(() => asked);
    this.pinned = backend;
    if (backend !== this.backend) this.#judge(`The flag sends this by ${backend}.`, "bad");
  }

  async #message(conversation) {
    const { messages } = await ask(`conversations/${conversation}`);
    return messages.find((each) => each.task_id === this.task);
  }

  #hear(state) {
    if (state === "quiet") this.heardAt = now();
    if (state !== "quiet") this.hindrance ||= state === "lost" ? LOST : TOOK_TURNS;
    if (state !== "yielded") this.#say({ queued: IN_TURN, quiet: "quiet", lost: "connection lost" }[state]);
  }

  #opened(at, isResumed) {
    this.heardAt = at;
    if (isResumed) {
      this.resumes += 1;
      if (!this.isCut) this.hindrance ||= LOST;
      this.isCut = false;
    } else this.first = at - this.asked;
    this.#say(STREAMING);
  }

  #take(record, at) {
    const before = this.arrivals.at(-1)?.[0];
    if (before) this.gap = Math.max(this.gap || 0, at - before);
    this.heardAt = at;
    if (this.said !== STREAMING) this.#say(STREAMING);
    this.chunks += 1;
    this.paper.add(record.content);
    this.arrivals.push([at, at - record.ts_ns / 1e6]);
  }

  /** Hold what was shown against the committed message. */
  async #check(conversation, record, why) {
    const kind = record?.chunk_type ?? "failed";
    this.paper.write();
    this.#say({ done: "complete", cancelled: "stopped" }[kind] ?? `failed: ${record?.code ?? why}`);
    this.isStopped = kind === "cancelled";
    if (this.isStopped) this.excuse = this.pinned === this.backend ? "stopped" : `sent by ${this.pinned}`;
    if (kind !== "done") return;
    const { content, backend } = await this.#message(conversation);
    this.#credit(backend);
    const size = `${count(content.length)} characters`;
    const isWhole = content === this.paper.text;
    const moved = backend === this.pinned ? "" : ` It was handed over to ${backend}.`;
    const sent = this.pinned === this.backend ? "" : ` The flag sent it by ${this.pinned}.`;
    if (isWhole) this.#judge(`Whole: all ${size} as they are in the database.${moved}${sent}`, sent ? "bad" : "good");
    else this.#judge(`Not whole: ${count(this.paper.text.length)} of ${size} came, or others.`, "bad");
  }

  /** Only what its own backend brought, over a connection like the others', is to be held against them. */
  #credit(backend) {
    if (this.pinned !== this.backend) this.excuse = `sent by ${this.pinned}`;
    else if (backend !== this.pinned) this.excuse = `handed over to ${backend}`;
    else this.excuse = this.hindrance;
    if (backend !== this.backend) this.#say(`complete, by ${backend}`);
  }

  /** Mark in the chart what was done now. */
  strike(label) {
    if (!this.isRunning) return;
    this.marks.push([now() / 1000, label]);
    this.#describe();
  }

  #describe() {
    const when = this.stillAt && !this.isRunning ? "in the whole race" : `over the last ${SHOWN_S} seconds`;
    const what = `Latency of each chunk by ${this.backend} ${when}, logarithmic; the figures below sum it up`;
    const told = this.marks.map(([at, label]) => `${label} at ${duration(1000 * at - this.begun)}`);
    this.canvas.setAttribute("aria-label", [what, ...told].join("; "));
  }

  cut() {
    if (!this.isRunning || !this.following) return;
    this.isCut = true;
    this.following.cut(CUT_MS);
    this.#say("cut off for 1 s");
  }

  async stop() {
    if (this.isRunning && this.task) await cancel(this.task);
  }

  hide(isHidden) {
    if (this.following) this.following.isShown = !isHidden;
  }

  /** The latencies in ms by what is known of the clock now. */
  get latencies() {
    return this.arrivals.map(([, behind]) => behind + this.clock.offset);
  }

  get p50() {
    return this.arrivals.length ? percentile(this.latencies, 0.5) : NaN;
  }

  /** Write the figures; those of this moment have an end when the race has. */
  show() {
    const values = this.latencies;
    const gap = this.isRunning && values.length ? now() - this.arrivals.at(-1)[0] : NaN;
    this.#write("ttfb", duration(this.first));
    this.#write("now", this.isRunning ? duration(values.at(-1)) : "–");
    this.#write("gap-now", duration(gap));
    this.#write("gap", duration(gap > this.gap ? gap : this.gap));
    this.#write("p50", duration(this.p50));
    this.#write("p99", duration(values.length ? percentile(values, 0.99) : NaN));
    this.#write("chunks", count(this.chunks));
    this.#write("resumes", count(this.resumes));
    this.#badge();
  }

  /** While it runs its last seconds are shown, and then all of it, with all that was done to it. */
  draw() {
    if (this.isRunning || !this.stillAt) this.chart.begin(now() / 1000);
    else this.chart.begin(this.stillAt / 1000, { since: this.begun / 1000 });
    const shown = this.arrivals.slice(-SHOWN_DOTS);
    this.chart.dots(shown.map(([at, behind]) => [at / 1000, behind + this.clock.offset]), this.place);
    this.chart.marks(this.marks);
  }

  #write(figure, text) {
    const element = this.figures[figure];
    if (element.textContent !== text) element.textContent = text;
  }

  #say(text) {
    this.said = text;
    this.#badge();
  }

  #badge() {
    const silence = this.isRunning && this.said !== IN_TURN ? now() - this.heardAt : 0;
    const text = silence > SILENCE_MS ? `no word for ${Math.floor(silence / 1000)} s` : this.said;
    const badge = this.element.querySelector(".badge");
    if (badge.textContent !== text) badge.textContent = text;
  }

  #judge(text, tone = "") {
    const verdict = this.element.querySelector(".verdict");
    verdict.textContent = text;
    verdict.className = `verdict ${tone}`;
  }
}
