// Who may hold a connection for a stream. A browser keeps six HTTP/1.1 connections to a host, for all its tabs together,
// and lets every further request wait without a word: so no more than five are taken by streams, whoever holds them
// gives way once a second while others wait, and a request always finds the sixth.

const MOST = 5;
const NAME = "streamgauge-connection-";
const NAMES = Array.from({ length: MOST }, (_, place) => NAME + place);

/** Wait for a connection of this browser's, after `waits()` if none is free; call the function that is returned to let it go. */
export async function take(signal, waits) {
  for (const name of NAMES) {
    const free = await request(name, { ifAvailable: true });
    if (free) return free;
  }
  waits?.();
  return queue(signal);
}

/** Tell whether somebody waits for a connection. */
export async function isWanted() {
  const { pending } = await locks.query();
  return pending.some((each) => each.name.startsWith(NAME));
}

/** Hold one lock: gives what lets it go, or null if `ifAvailable` and it is not. */
function request(name, options, refuse = () => false) {
  return new Promise((resolve, reject) => {
    locks
      .request(name, options, (lock) => {
        if (!lock || refuse()) return resolve(null);
        return new Promise((release) => resolve(release));
      })
      .catch(reject);
  });
}

async function queue(signal) {
  const found = new AbortController();
  let isTaken = false;
  const refuse = () => {
    if (isTaken || signal.aborted) return true;
    isTaken = true;
    return false;
  };
  const options = { signal: AbortSignal.any([signal, found.signal]) };
  const waiting = NAMES.map(async (name) => (await request(name, options, refuse)) ?? Promise.reject());
  try {
    return await Promise.any(waiting);
  } catch {
    throw signal.reason;
  } finally {
    found.abort();
  }
}

/** What Web Locks do, within this tab: browsers have them only where the page came over HTTPS or from this machine. */
class TabLocks {
  #held = new Set();
  #pending = [];

  async request(name, { ifAvailable = false, signal }, use) {
    if (ifAvailable && this.#held.has(name)) return use(null);
    while (this.#held.has(name)) await this.#wait(name, signal);
    this.#held.add(name);
    try {
      return await use({ name });
    } finally {
      this.#held.delete(name);
      this.#pending.find((each) => each.name === name)?.wake();
    }
  }

  async query() {
    return { pending: this.#pending.map(({ name }) => ({ name })) };
  }

  async #wait(name, signal) {
    const entry = { name };
    this.#pending.push(entry);
    try {
      await new Promise((wake, fail) => {
        if (signal?.aborted) return fail(signal.reason);
        entry.wake = wake;
        signal?.addEventListener("abort", () => fail(signal.reason), { once: true });
      });
    } finally {
      this.#pending.splice(this.#pending.indexOf(entry), 1);
    }
  }
}

const locks = navigator.locks ?? new TabLocks();
