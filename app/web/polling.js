// Looks at something again and again while the tab can be seen; where that fails, ever less often.

import { onReached } from "./api.js";

const SOONEST_MS = 2000;
const LONGEST_MS = 30_000;

/** How long to wait after so many failures in a row: twice as long each time, and no two pages alike. */
export function patience(failures, soonest = SOONEST_MS, longest = LONGEST_MS, chance = Math.random()) {
  return Math.min(soonest * 2 ** (failures - 1), longest) * (0.5 + chance / 2);
}

/** Wait for so long, or until `signal`, or until the network is back or somebody looks at the tab. */
export function hopefully(ms, signal) {
  return new Promise((wake) => {
    const over = new AbortController();
    const end = () => {
      clearTimeout(timer);
      over.abort();
      wake();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end, { signal: over.signal });
    onHope(end, over.signal);
    if (signal?.aborted) end();
  });
}

function onHope(then, signal) {
  addEventListener("online", then, { signal });
  addEventListener("visibilitychange", () => document.hidden || then(), { signal });
}

export class Polling {
  /** `look` tells whether it went well; `waits(at)` hears when the next try is after one that did not, else nothing. */
  constructor({ everyMs, look, waits = () => {} }) {
    Object.assign(this, { everyMs, look, waits });
  }

  /** Look now, and from now on while the tab can be seen. */
  start() {
    this.failures = 0;
    this.running = new AbortController();
    onHope(() => this.#turn(), this.running.signal);
    onReached(() => this.failures && this.#turn(), this.running.signal);
    this.#look();
  }

  stop() {
    this.running?.abort();
    clearTimeout(this.timer);
    this.waits();
  }

  #turn() {
    clearTimeout(this.timer);
    if (!document.hidden) this.#look();
  }

  async #look() {
    if (this.isLooking) return;
    this.isLooking = true;
    const isWell = await this.look().finally(() => (this.isLooking = false));
    if (this.running.signal.aborted) return;
    this.failures = isWell ? 0 : this.failures + 1;
    const wait = isWell ? this.everyMs : patience(this.failures, Math.min(this.everyMs, SOONEST_MS));
    this.waits(isWell ? undefined : Date.now() + wait);
    this.timer = setTimeout(() => this.#turn(), wait);
  }
}
