// Background load: real messages, as many open at once as asked for. One connection reads them to their ends in turn.

import { address, begin, cancel, post } from "./api.js";
import { Following } from "./following.js";
import { keyHeaders } from "./key.js";
import { hopefully, patience } from "./polling.js";

const MODEL = "scripted?ttft=0.2&gap=0.05&chunks=200"; // ten seconds each
const PASSING = [0, 429, 503]; // not reached, too many, a part of it away: what may be well again in a moment

export class Load {
  /** `on` hears `failed(error, at)`, with when it goes on if it does, `well()` when that is over, and `changed(open)`. */
  constructor(backends, { failed, well, changed }) {
    Object.assign(this, { backends, failed, well, changed, wanted: 0, posted: 0, failures: 0, open: [] });
    addEventListener("pagehide", () => this.#abandon());
  }

  /** Keep so many streams open from now on; those that are too many are stopped. */
  set(wanted) {
    this.wanted = wanted;
    const surplus = this.open.splice(wanted);
    for (const task of surplus) cancel(task).catch((error) => this.failed(error));
    if (surplus.includes(this.reading?.task)) this.reading.close();
    this.changed(this.open.length);
    this.#fill();
    this.#read();
  }

  async #fill() {
    if (this.isFilling) return;
    this.isFilling = true;
    try {
      while (this.open.length < this.wanted) await this.#start();
      if (this.failures) this.well();
      this.failures = 0;
    } catch (error) {
      this.#fail(error);
    } finally {
      this.isFilling = false;
    }
  }

  #fail(error) {
    this.failures += 1;
    const wait = patience(this.failures);
    const isPassing = PASSING.includes(error.status);
    this.failed(error, isPassing ? Date.now() + wait : undefined);
    if (isPassing) hopefully(wait).then(() => this.#fill());
    else this.wanted = 0;
  }

  async #start() {
    const { id } = await begin("Background load"); // its own: a conversation's earlier turns go to the model again
    const backend = this.backends[this.posted++ % this.backends.length];
    const { task_id: task } = await post(id, "Flow.", { model: MODEL, backend });
    if (this.open.length < this.wanted) this.open.push(task);
    else await cancel(task); // the slider was moved back meanwhile
    this.changed(this.open.length);
    this.#read();
  }

  async #read() {
    if (this.isReading) return;
    this.isReading = true;
    const nothing = () => {};
    while (this.open.length) {
      const task = this.open[0];
      this.reading = new Following(task, { opened: nothing, content: nothing, reset: nothing, state: nothing, end: nothing });
      await this.reading.run();
      this.open = this.open.filter((each) => each !== task);
      this.changed(this.open.length);
      this.#fill();
    }
    this.isReading = false;
  }

  /** The page goes away: nobody is left to read them. */
  #abandon() {
    for (const task of this.open) {
      fetch(address(`stream/${task}/cancel`), { method: "POST", headers: keyHeaders(), keepalive: true });
    }
  }
}
