// How far this machine's wall clock is from the server's. A question and its answer bound that from both sides: the
// server's clock was read after the one and before the other. What all bounds leave over is the truth.

import { reach } from "./api.js";

const FIRST = 12; // questions

export const now = () => performance.timeOrigin + performance.now();

/** Server time = `now()` + `offset`, in ms, wrong by no more than `bound`; more questions make that less. */
export class Clock {
  #least = -Infinity;
  #most = Infinity;

  /** Ask often enough to begin with. */
  static async compared() {
    const clock = new Clock();
    for (let asked = 0; asked < FIRST; asked += 1) await clock.ask();
    return clock;
  }

  async ask() {
    const asked = now();
    const response = await reach("clock");
    const { received_ns: received, sent_ns: sent } = await response.json();
    this.#least = Math.max(this.#least, sent / 1e6 - now());
    this.#most = Math.min(this.#most, received / 1e6 - asked);
  }

  get offset() {
    return (this.#least + this.#most) / 2;
  }

  get bound() {
    return Math.abs(this.#most - this.#least) / 2;
  }
}
