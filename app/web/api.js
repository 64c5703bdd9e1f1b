// Requests to the API this page came from; every failure becomes a Problem whose message says what to do.

import { askKey, keyHeaders } from "./key.js";

const ROOT = new URL("..", import.meta.url);

/** How long the server may say nothing to a request. */
export const LIMIT_MS = 5000;
const SILENT = `The server said nothing for ${LIMIT_MS / 1000} s: it hangs, or the network does. Look whether it runs, then try again.`;
const UNREACHED = "The server can't be reached. Check the network, or that it runs; then try again.";

/** What the API says of these is for whoever runs it, or writes a client. */
const FOR_READERS = {
  401: "This system wants an API key, and has none of yours that it knows. Try again to be asked for one.",
  503: "A part of this system is away, so nothing was done. Try again in a moment.",
};

export class Problem extends Error {
  /** `errors` names each part of the request that was refused: {where, what}. */
  constructor(message, status = 0, errors = []) {
    super(message);
    Object.assign(this, { status, errors });
  }

  /** Whether the server surely did nothing; of one that kept silent or failed nobody knows. */
  get isRefusal() {
    return (this.status >= 400 && this.status < 500) || this.status === 503;
  }
}

const REACHED = "streamgauge-reached";
let isAway = false;

export const address = (path) => new URL(path, ROOT);

/**
 * Fetch from the API, with a key where it wants one and no other word was given; Problem if it can't be reached or keeps
 * silent. The limit holds for the whole answer; of a stream (`isStream`) for its head, since its body lasts.
 */
export async function reach(path, options = {}) {
  const sent = keyHeaders();
  const response = await attempt(path, options, sent);
  if (response.status !== 401 || path === "metrics" || options.headers?.Authorization) return response;
  const hasAnother = keyHeaders().Authorization !== sent.Authorization; // given meanwhile
  return hasAnother || (await askKey(Boolean(sent.Authorization))) ? reach(path, options) : response;
}

/** Call `then` when the server answers a request after one that it did not. */
export const onReached = (then, signal) => addEventListener(REACHED, then, { signal });

function tellReached(isReached) {
  if (isReached && isAway) dispatchEvent(new Event(REACHED));
  isAway = !isReached;
}

async function attempt(path, { isStream = false, signal, ...options }, keys) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), LIMIT_MS);
  const either = AbortSignal.any(signal ? [signal, limit.signal] : [limit.signal]);
  const headers = { ...keys, ...options.headers };
  try {
    const response = await fetch(address(path), { cache: "no-store", ...options, headers, signal: either });
    const answer = isStream ? response : await whole(response);
    tellReached(true);
    return answer;
  } catch (error) {
    if (error.name === "AbortError" && !limit.signal.aborted) throw error;
    tellReached(false);
    throw new Problem(either.aborted ? SILENT : UNREACHED);
  } finally {
    clearTimeout(timer);
  }
}

/** The same response once its body is here. */
async function whole(response) {
  const body = await response.arrayBuffer();
  return new Response(body.byteLength ? body : null, response);
}

/** Ask for JSON; Problem if the answer is an error. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const asked = { method, signal, headers: { ...headers } };
  if (body !== undefined) {
    asked.body = JSON.stringify(body);
    asked.headers["Content-Type"] = "application/json";
  }
  const response = await reach(path, asked);
  if (!response.ok) throw await problemOf(response, headers.Authorization ? "" : FOR_READERS[response.status]);
  return response.json();
}

/** The problem that an answer tells of, in these words if there are any. */
export async function problemOf(response, words) {
  const told = await response.json().catch(() => ({}));
  const parts = (told.errors ?? []).map((each) => `${each.where.replace(/^body\./, "")}: ${each.what}`);
  const message = words || [told.detail ?? `The server answered ${response.status}.`, ...parts].join(" ");
  return new Problem(message, response.status, told.errors);
}

/** Post a message; the stream of its answer has begun when this returns. */
export async function post(conversation, content, { model, backend, signal } = {}) {
  const headers = backend ? { "X-Streamgauge-Backend": backend } : {};
  const body = model ? { content, model } : { content };
  return ask(`conversations/${conversation}/messages`, { method: "POST", body, headers, signal });
}

export const begin = (title) => ask("conversations", { method: "POST", body: { title } });
export const cancel = (task) => ask(`stream/${task}/cancel`, { method: "POST" });
