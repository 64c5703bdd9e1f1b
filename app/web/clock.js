// How far this machine's wall clock is from the server's, as NTP asks: of some samples the one with the shortest way.

import { reach } from "./api.js";

const SAMPLES = 8;

export const now = () => performance.timeOrigin + performance.now();

/** Give {offset, bound} in ms: server time = `now()` + offset, wrong by no more than the bound. */
export async function measure() {
  let best = { bound: Infinity };
  for (let number = 0; number < SAMPLES; number += 1) {
    const asked = now();
    const response = await reach("clock");
    const { received_ns: received, sent_ns: sent } = await response.json();
    const answered = now();
    const bound = (answered - asked - (sent - received) / 1e6) / 2;
    if (bound < best.bound) best = { bound, offset: (received / 1e6 - asked + (sent / 1e6 - answered)) / 2 };
  }
  return best;
}
