// Requests to the API this page came from; every failure becomes a Problem whose message says what to do.

import { askKey, keyHeaders } from "./key.js";

const ROOT = new URL("..", import.meta.url);

export class Problem extends Error {
  /** `errors` names each part of the request that was refused: {where, what}. */
  constructor(message, status = 0, errors = []) {
    super(message);
    Object.assign(this, { status, errors });
  }
}

export const address = (path) => new URL(path, ROOT);

/** Fetch from the API, with a key where it wants one and no other word was given; Problem if it can't be reached. */
export async function reach(path, options = {}) {
  const sent = keyHeaders();
  const response = await attempt(path, options, sent);
  if (response.status !== 401 || path === "metrics" || options.headers?.Authorization) return response;
  const hasAnother = keyHeaders().Authorization !== sent.Authorization; // given meanwhile
  return hasAnother || (await askKey()) ? reach(path, options) : response;
}

async function attempt(path, options, keys) {
  try {
    return await fetch(address(path), { cache: "no-store", ...options, headers: { ...keys, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can't be reached. Check the network, or that it runs; then try again.");
  }
}

/** Ask for JSON; Problem if the answer is an error. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const asked = { method, signal, headers: { ...headers } };
  if (body !== undefined) {
    asked.body = JSON.stringify(body);
    asked.headers["Content-Type"] = "application/json";
  }
  const response = await reach(path, asked);
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

export async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  const parts = (told.errors ?? []).map((each) => `${each.where.replace(/^body\./, "")}: ${each.what}`);
  const message = [told.detail ?? `The server answered ${response.status}.`, ...parts].join(" ");
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
