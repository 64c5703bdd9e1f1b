// What this browser remembers: its conversations; and this tab: how far it has read the answer that is under way, and
// the options chosen.

const LIST = "streamgauge.conversations";
const READ = "streamgauge.read";
const OPTIONS = "streamgauge.options";
const MOST = 200;

const parsed = (text, otherwise) => {
  try {
    return JSON.parse(text) ?? otherwise;
  } catch {
    return otherwise;
  }
};

/** The conversations, newest first: {id, title, at}. */
export const conversations = () => parsed(localStorage.getItem(LIST), []);

export function remember(id, title) {
  const others = conversations().filter((each) => each.id !== id);
  localStorage.setItem(LIST, JSON.stringify([{ id, title, at: Date.now() }, ...others].slice(0, MOST)));
}

export function forget(id) {
  localStorage.setItem(LIST, JSON.stringify(conversations().filter((each) => each.id !== id)));
}

/** Call `then` when another tab has changed the list. */
export function onChange(then) {
  addEventListener("storage", (event) => event.key === LIST && then());
}

/** What this tab has of a stream: {task, last, next, text, chunks, resumes}, always of one moment. */
export function readSoFar(task) {
  const kept = parsed(sessionStorage.getItem(READ), {});
  return kept.task === task ? kept : null;
}

export function keepRead(read) {
  sessionStorage.setItem(READ, JSON.stringify(read));
}

/** The options that were chosen in this tab: {model, backend}. */
export const keptOptions = () => parsed(sessionStorage.getItem(OPTIONS), {});

export function keepOptions(options) {
  sessionStorage.setItem(OPTIONS, JSON.stringify(options));
}
