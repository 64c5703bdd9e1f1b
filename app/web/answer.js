// One answer of a conversation: it streams, or stands there with how it ended.

import { ask, cancel } from "./api.js";
import { copyOf, make } from "./elements.js";
import { plural } from "./figures.js";
import { Following } from "./following.js";
import { Paper, eachFrame } from "./paper.js";
import { keepRead, readSoFar } from "./past.js";

const KEEP_MS = 250;
const LEASE_S = 15;
const SILENCE_S = 5;
const GONE = "The server has nothing of this answer any more.";
const KEPT = "What had come by then is kept.";
const REASONS = {
  upstream: "the model's server broke off or refused",
  timeout: "the model fell silent for too long",
  internal: "a fault of ours; the server's log has it",
  producer_lost: "its worker was lost, and no other took over in time",
  persist: "the whole answer came, but the database was late; it is stored as soon as that is back",
};

export class Answer {
  /**
   * `message` is as the API gives it; `on` hears `said(text)`, for a screen reader, `ended()`, and
   * `again()`, when its question is to be asked again.
   */
  constructor(conversation, message, on) {
    Object.assign(this, { conversation, message, on });
    this.element = copyOf("message-template");
    this.element.querySelector(".who").textContent = "Answer";
    this.line = this.element.querySelector(".state");
    this.paper = new Paper(this.element.querySelector(".text"));
    this.chunks = this.resumes = 0;
    this.count = eachFrame(() => this.isOpen && this.#tell(...this.#progress()));
    if (message.status === "pending") this.#follow();
    else this.#settle(message);
  }

  get isOpen() {
    return this.message.status === "pending";
  }

  show(isShown) {
    if (this.following) this.following.isShown = isShown;
  }

  /** Leave the stream; it goes on at the server. */
  leave() {
    if (this.following && !this.following.closing.signal.aborted) this.#keep();
    this.following?.close();
    clearInterval(this.keeping);
    clearInterval(this.minding);
  }

  async stop() {
    if (this.isStopping) return;
    this.isStopping = true;
    this.count();
    try {
      await cancel(this.message.task_id);
    } catch (error) {
      this.isStopping = false; // it streams on, and can be stopped again
      this.count();
      error.message = `Not stopped. ${error.message}`;
      throw error;
    }
  }

  #follow() {
    const read = readSoFar(this.message.task_id);
    if (read) this.paper.set(read.text);
    Object.assign(this, { chunks: read?.chunks ?? 0, resumes: read?.resumes ?? 0 });
    this.element.setAttribute("aria-busy", "true");
    this.#stand("waiting");
    this.following = new Following(this.message.task_id, this.#handlers(), read ?? {});
    this.following.run();
    this.keeping = setInterval(() => this.#keep(), KEEP_MS);
    this.minding = setInterval(this.count, 1000);
    addEventListener("pagehide", () => this.#keep(), { signal: this.following.closing.signal });
  }

  #handlers() {
    return {
      opened: (_at, isResumed) => {
        this.resumes += isResumed;
        this.#stand("reading");
      },
      content: (record) => {
        this.chunks += 1;
        this.paper.add(record.content);
        this.#stand("reading");
      },
      reset: () => {
        this.chunks = 0;
        this.paper.set("");
        this.#stand("reset");
      },
      state: (name, s) => this.#stand(name, s),
      end: (record, why) => this.#finish(record, why),
    };
  }

  /** What was heard last of the stream, and the seconds that were told with it, which count on from then. */
  #stand(standing, toldS = 0) {
    Object.assign(this, { standing, toldS, stoodAt: performance.now() });
    this.count();
  }

  #progress() {
    if (this.isStopping) return ["Stopping…"];
    const passed = (performance.now() - this.stoodAt) / 1000;
    const silence = Math.floor(passed);
    if (this.standing === "queued") return ["Waiting its turn: this browser's connections are in use."];
    if (this.standing === "lost") return [this.#lost(Math.ceil(this.toldS - passed)), "warn"];
    if (this.standing === "reset") return ["A new attempt began: the text starts again.", "warn"];
    if (this.toldS > LEASE_S) return [`Its worker has not been heard for ${Math.round(this.toldS) + silence} s.`, "warn"];
    if (this.standing === "quiet") return ["The model is quiet; its worker is alive."];
    const reading = this.paper.text ? `Streaming, ${plural(this.chunks, "chunk")}${this.#resumed()}` : "Waiting for the first word…";
    return silence < SILENCE_S ? [reading] : [`${reading} Nothing came for ${silence} s.`];
  }

  #lost(left) {
    const next = left > 0 ? `the next try is in ${left} s.` : "reconnecting…";
    return `Connection lost. The answer goes on at the server; ${next}`;
  }

  #resumed() {
    return this.resumes ? `, resumed ${this.resumes === 1 ? "once" : `${this.resumes} times`}` : "";
  }

  /** Show how it ended, with what the database has of it. */
  async #finish(record, why) {
    this.leave();
    const committed = why ? null : await this.#committed();
    const kind = { done: "complete" }[record?.chunk_type] ?? record?.chunk_type ?? "failed";
    const told = { ...this.message, status: kind, content: this.paper.text, code: record?.code, retryable: record?.retryable };
    this.#settle(committed && committed.status !== "pending" ? committed : told, why);
    this.on.ended();
  }

  async #committed() {
    try {
      const { messages } = await ask(`conversations/${this.conversation}`);
      return messages.find((each) => each.task_id === this.message.task_id);
    } catch {
      return null; // what the stream said must do
    }
  }

  #settle(message, why) {
    this.message = message;
    this.element.removeAttribute("aria-busy");
    if (message.content !== this.paper.text) this.paper.set(message.content);
    this.paper.write();
    const [text, tone] = why ? [GONE, "bad"] : this.#ending(message);
    this.#tell(text, tone);
    if (this.following) this.on.said(text);
    const details = [message.backend, message.usage && plural(message.usage.completion_tokens, "token")];
    for (const detail of details) if (detail) this.line.append(make("span", {}, detail));
    if (message.retryable) this.line.append(make("button", { type: "button", onclick: () => this.on.again() }, "Ask again"));
  }

  #ending({ status, code, content, finish_reason: reason }) {
    if (status === "complete") {
      return [(reason === "length" ? "Complete, up to its length limit" : "Complete") + this.#resumed(), "good"];
    }
    const kept = content ? ` ${KEPT}` : "";
    if (status === "cancelled") return [`Stopped.${kept}`, "warn"];
    return [`Failed: ${REASONS[code] ?? code ?? "it broke off"}.${kept}`, "bad"];
  }

  #tell(text, tone = "") {
    if (this.told === text) return;
    this.told = text;
    this.line.replaceChildren(make("span", { className: tone }, text));
  }

  /** Remember text and id together, so that a reload goes on from there. */
  #keep() {
    const { task, last, next } = this.following;
    keepRead({ task, last, next, text: this.paper.text, chunks: this.chunks, resumes: this.resumes });
  }
}
