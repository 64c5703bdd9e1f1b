// Orders to the stack that `streamgauge up` runs on this machine.

import { LIMIT_MS, Problem, problemOf } from "./api.js";
import { token, tokenHeaders } from "./operator.js";

const ORDER_MS = 65_000; // the stack itself gives an order up after a minute

async function send(url, method, limit) {
  const options = { method, headers: tokenHeaders(), signal: AbortSignal.timeout(limit) };
  const response = await fetch(url, options).catch((error) => {
    if (error.name === "TimeoutError") throw new Problem("`streamgauge up` does not answer: it hangs. Start it anew.");
    throw new Problem("Nobody listens for orders: `streamgauge up` has stopped, or runs elsewhere. Start it anew.");
  });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** The orders that can be given; none without an address or a token. */
export const possible = async (url) => (url && token() ? send(url, "GET", LIMIT_MS) : []);

export const order = (url, name) => send(new URL(name, url), "POST", ORDER_MS);
