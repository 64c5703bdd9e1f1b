// Orders to the stack that `streamgauge up` runs on this machine.

import { Problem, problemOf } from "./api.js";
import { token, tokenHeaders } from "./operator.js";

async function send(url, method) {
  const response = await fetch(url, { method, headers: tokenHeaders() }).catch(() => {
    throw new Problem("Nobody listens for orders: `streamgauge up` has stopped, or runs elsewhere. Start it anew.");
  });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** The orders that can be given; none without an address or a token. */
export const possible = async (url) => (url && token() ? send(url, "GET") : []);

export const order = (url, name) => send(new URL(name, url), "POST");
