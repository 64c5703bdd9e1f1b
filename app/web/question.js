// The box that one asks in: its text and its length, the options beside it, and why something was not sent.

import { $, make } from "./elements.js";
import { count } from "./figures.js";
import { keepOptions, keptOptions } from "./past.js";

const SENDING_MS = 300; // what is quicker needs no word
const IME = 229; // Safari tells of the Enter that ends a composition by this code alone
const RUNNING = "Not sent: the answer above was still running. Stop, or Escape, ends it.";

export class Question {
  constructor(system) {
    this.most = system.max_content_chars;
    this.usual = system.model;
    for (const name of system.backends) $("backend").append(make("option", { value: name }, name));
    $("model").placeholder = system.model;
    this.#recall();
    $("ask").addEventListener("input", ({ target }) => (target === $("question") ? this.#measure() : this.#choose()));
    $("question").addEventListener("keydown", (event) => this.#maySend(event));
  }

  /** What is asked; nothing if that can't be sent, which is said. */
  take() {
    const content = $("question").value.trim();
    const isTooLong = this.#measure();
    if (isTooLong) $("question").focus();
    return isTooLong ? "" : content;
  }

  get chosen() {
    return { model: $("model").value.trim(), backend: $("backend").value };
  }

  clear() {
    $("question").value = "";
  }

  /** An answer runs, and no second one is asked for meanwhile. */
  tellRunning() {
    this.#tell(RUNNING);
  }

  /** The answer has ended: what was said of its running is no longer so. */
  tellEnded() {
    if ($("ask-said").textContent === RUNNING) this.#tell("");
  }

  /** It will be stopped once it has begun. */
  tellStopping() {
    this.#tell("Stopping it as soon as it is sent…");
  }

  /** Say so if sending takes long, until `tellSent`. */
  tellSending() {
    document.querySelector(".options").open = false; // a small screen's room is for the answer
    $("send").setAttribute("aria-disabled", "true");
    this.sending = setTimeout(() => {
      $("send").textContent = "Sending…";
      if (!$("ask-said").textContent) this.#tell("Sending…");
    }, SENDING_MS);
  }

  tellSent() {
    clearTimeout(this.sending);
    $("send").textContent = "Send";
    $("send").removeAttribute("aria-disabled");
    this.#tell("");
  }

  /** Mark the model as what the server refused; say so in a sentence for whoever asked. */
  refuseModel() {
    document.querySelector(".options").open = true;
    $("model").setAttribute("aria-invalid", "true");
    $("model-wrong").textContent = `Not offered here. Leave it empty for ${this.usual}.`;
    $("model").focus();
    return "The question was not sent: its model is not offered here. Change it under Options, then send again.";
  }

  /** Say how much too long the question is; tell whether it is. Nothing is cut off. */
  #measure() {
    const text = $("question").value.trim();
    const length = text.length > this.most ? [...text].length : 0; // the server counts characters, not their halves
    const isTooLong = length > this.most;
    if (isTooLong) $("question").setAttribute("aria-invalid", "true");
    else $("question").removeAttribute("aria-invalid");
    const [has, most, over] = [length, this.most, length - this.most].map((each) => count(each));
    this.#tell(isTooLong ? `${has} characters, and a message has ${most} at most: shorten it by ${over}, then send.` : "");
    return isTooLong;
  }

  #tell(text) {
    if ($("ask-said").textContent !== text) $("ask-said").textContent = text;
  }

  #recall() {
    const { model = "", backend = "" } = keptOptions();
    $("model").value = model;
    if ([...$("backend").options].some(({ value }) => value === backend)) $("backend").value = backend;
  }

  #choose() {
    $("model").removeAttribute("aria-invalid");
    $("model-wrong").textContent = "";
    keepOptions(this.chosen);
  }

  #maySend(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === IME) return;
    event.preventDefault();
    $("ask").requestSubmit();
  }
}
