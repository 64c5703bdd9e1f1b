// Orders to the stack that `streamgauge up` runs on this machine, for whoever opened the page by the address it printed.

import { Problem, problemOf } from "./api.js";

const KEPT = "streamgauge.token";

/** Take the operator's token out of the address (#token=…), where no server ever sees it, and keep it for this tab. */
export function takeToken() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEPT, found[1]);
  history.replaceState(null, "", location.pathname);
}

export const token = () => sessionStorage.getItem(KEPT) ?? "";

async function send(url, method) {
  const headers = { Authorization: `Bearer ${token()}` };
  const response = await fetch(url, { method, headers }).catch(() => {
    throw new Problem("Nobody listens for orders: `streamgauge up` has stopped, or runs elsewhere. Start it anew.");
  });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** The orders that can be given; none without an address or a token. */
export const possible = async (url) => (url && token() ? send(url, "GET") : []);

export const order = (url, name) => send(new URL(name, url), "POST");
