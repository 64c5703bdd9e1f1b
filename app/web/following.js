// One stream, followed to its end over as many connections as that takes, each chunk exactly once.

import { problemOf, reach } from "./api.js";
import { hopefully, patience } from "./polling.js";
import { events } from "./sse.js";
import { isWanted, take } from "./turns.js";

const TURN_MS = 1000;
const HURRY_MS = 300; // who waits less than that for a connection need not hear of it
const SILENCE_MS = 35_000; // more than two keep-alives: the connection is dead, whatever the network says
const LONGEST_WAIT_MS = 8000;
const TERMINAL = new Set(["done", "failed", "cancelled"]);

export class Following {
  /**
   * `seen` is {last, next}: the last event id, and the index that follows it. `on` hears, in order, `opened(at, isResumed)`,
   * `content(record, at)`, `reset(record)`, `end(record, why)` with the terminal, or null where it was seen before or the
   * stream is unknown, and `state(name, s)`: queued, yielded (its connection, to another), quiet (and how old its worker's last
   * word is) or lost (and when the next try is). `at` is in ms of this machine's wall clock.
   */
  constructor(task, on, seen = {}) {
    this.task = task;
    this.on = on;
    this.last = seen.last ?? "";
    this.next = seen.next ?? 0;
    this.isShown = true;
    this.retry = 1000;
    this.failures = 0;
    this.away = 0; // until when
    this.gaveWay = false;
    this.closing = new AbortController();
  }

  /** Follow until the terminal, or `close`. */
  async run() {
    // The kernel may keep a dead network's connection for minutes.
    addEventListener("offline", () => this.connection?.abort(), { signal: this.closing.signal });
    while (!this.closing.signal.aborted) {
      try {
        if (await this.#connect()) return;
      } catch (error) {
        if (this.closing.signal.aborted) return;
        if (error.status === 404) return this.#end(null, error.message);
        await this.#wait();
      }
    }
  }

  close() {
    this.closing.abort();
  }

  /** Break the connection off, and stay away for so long. */
  cut(ms) {
    this.away = performance.now() + ms;
    this.connection?.abort();
  }

  #end(record, why) {
    this.closing.abort();
    this.on.end(record, why);
  }

  /** Hold one connection for as long as it lasts; tell whether the stream is over. */
  async #connect() {
    while (this.away > performance.now() && !this.closing.signal.aborted) {
      await hopefully(this.away - performance.now(), this.closing.signal);
    }
    await this.#untilShown();
    let hurry;
    const waits = () => (hurry = setTimeout(() => this.on.state("queued"), HURRY_MS));
    const release = await take(this.closing.signal, waits).finally(() => clearTimeout(hurry));
    this.connection = new AbortController();
    const watching = setInterval(() => this.#giveWay(), TURN_MS / 2);
    this.since = this.bytesAt = performance.now();
    this.gaveWay = false;
    try {
      return await this.#read(AbortSignal.any([this.closing.signal, this.connection.signal]));
    } catch (error) {
      if (this.connection.signal.aborted && (this.gaveWay || this.away > performance.now())) return false;
      throw error;
    } finally {
      clearInterval(watching);
      this.connection.abort();
      release();
    }
  }

  /** Let another stream have the connection, once this one had its turn; a hidden one has none. */
  async #giveWay() {
    const now = performance.now();
    if (now - this.bytesAt > SILENCE_MS) return this.connection.abort();
    if ((this.#isSeen() && now - this.since < TURN_MS) || !(await isWanted())) return;
    this.gaveWay = true;
    this.on.state("yielded");
    this.connection.abort();
  }

  async #read(signal) {
    const isResumed = this.last !== "";
    const response = await reach(`stream/${this.task}`, {
      signal,
      isStream: true,
      headers: isResumed ? { "Last-Event-ID": this.last } : {},
    });
    if (response.status === 204) return this.#end(null), true;
    if (!response.ok) throw await problemOf(response);
    let isFirst = true;
    for await (const heard of events(response.body)) {
      const at = performance.timeOrigin + performance.now();
      this.bytesAt = performance.now();
      if (isFirst) this.on.opened(at, isResumed);
      isFirst = false;
      for (const event of heard) if (this.#take(event, at)) return true;
    }
    return false; // the server is stopping, and said when to come back
  }

  /** Take one event; tell whether it was the terminal. */
  #take(event, at) {
    if (event.retry) this.retry = event.retry;
    if (event.comment?.startsWith("keep-alive")) this.on.state("quiet", Number(event.comment.slice(11)));
    if (event.data === undefined) return false;
    const record = JSON.parse(event.data);
    const { chunk_index: index, chunk_type: kind } = record;
    const isReset = kind === "reset";
    if (!isReset && this.next > 0 && index < this.next) return false; // seen before
    if (!isReset && index > this.next && this.last !== "") throw new Error(`chunk ${this.next} did not come`);
    this.last = event.id ?? "";
    this.next = index + 1;
    this.failures = 0;
    if (isReset) this.on.reset(record);
    else if (TERMINAL.has(kind)) return this.#end(record), true;
    else this.on.content(record, at);
    return false;
  }

  async #wait() {
    this.failures += 1;
    const wait = patience(this.failures, this.retry, LONGEST_WAIT_MS);
    this.on.state("lost", wait / 1000);
    await hopefully(wait, this.closing.signal);
  }

  #isSeen() {
    return this.isShown && document.visibilityState === "visible";
  }

  /** One that gave way while nobody looks comes back when somebody does. */
  async #untilShown() {
    while (this.gaveWay && !this.#isSeen() && !this.closing.signal.aborted) await hopefully(250, this.closing.signal);
  }
}
