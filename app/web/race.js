// The race: one prompt through every backend at once, the model's pace, a background load, and things to break.

import { Clock } from "./clock.js";
import { order, possible } from "./control.js";
import { $, telling } from "./elements.js";
import { count, duration } from "./figures.js";
import { Lane } from "./lane.js";
import { Load } from "./load.js";

const LENGTH_S = 12;
const FEWEST_CHUNKS = 40;
const FIGURES_MS = 250;
const ASK_MS = 700;
const HINT = "To pause the worker or restart Valkey, open the page by the address that `streamgauge up` prints.";

export class Race {
  constructor(system) {
    this.system = system;
    this.lanes = system.backends.map((backend, place) => new Lane(backend, place));
    $("lanes").replaceChildren(...this.lanes.map((lane) => lane.element));
    for (const each of document.querySelectorAll("#race [data-scripted]")) each.hidden = !system.scripted;
    this.load = new Load(system.backends, {
      failed: (error) => ($("race-alert").textContent = error.message),
      changed: (open) => this.#showLoad(open),
    });
    $("start-race").addEventListener("submit", (event) => this.#start(event));
    $("race-stop").addEventListener("click", () => telling($("race-alert"), () => this.#stop()));
    $("cut").addEventListener("click", () => this.lanes.forEach((lane) => lane.cut()));
    $("pace").addEventListener("input", () => this.#showPace());
    $("load").addEventListener("input", () => this.load.set(Number($("load").value)));
    this.#showPace();
    this.#showLoad(0);
    telling($("race-alert"), () => this.#offerOrders());
  }

  show() {
    for (const lane of this.lanes) lane.hide(false);
    this.isShown = true;
    this.#draw();
  }

  hide() {
    for (const lane of this.lanes) lane.hide(true);
    this.isShown = false;
  }

  get model() {
    if (!this.system.scripted) return undefined;
    const pace = Number($("pace").value);
    return `scripted?ttft=0.4&gap=${1 / pace}&chunks=${Math.max(FEWEST_CHUNKS, pace * LENGTH_S)}`;
  }

  async #start(event) {
    event.preventDefault();
    if (this.isRunning) return;
    this.#run(true);
    await telling($("race-alert"), async () => {
      const clock = await Clock.compared();
      $("race-said").textContent = "Racing.";
      const asking = setInterval(() => this.#compare(clock), ASK_MS);
      await this.#race($("prompt").value, this.model, clock).finally(() => clearInterval(asking));
      this.#tellClock(clock);
    });
    this.#run(false);
    this.#sumUp();
  }

  /** Run every lane to its end, whatever becomes of the others; then throw what went wrong in the first that failed. */
  async #race(prompt, model, clock) {
    const results = await Promise.allSettled(this.lanes.map((lane) => lane.run(prompt, model, clock)));
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }

  async #compare(clock) {
    await clock.ask().catch(() => {}); // what is known already must do
    this.#tellClock(clock);
  }

  #tellClock({ bound }) {
    $("race-clock").textContent = `Clock: within ${duration(bound)} of the server's.`;
  }

  #run(isRunning) {
    this.isRunning = isRunning;
    $("race-go").disabled = isRunning;
    $("cut").disabled = !isRunning;
    this.#mayStop();
    if (!isRunning) return clearInterval(this.showing);
    this.showing = setInterval(() => this.lanes.forEach((lane) => lane.show()), FIGURES_MS);
    return this.#draw();
  }

  #draw() {
    if (!this.isShown || this.isDrawing) return;
    this.isDrawing = true;
    const draw = () => {
      for (const lane of this.lanes) lane.draw();
      this.isDrawing = this.isRunning && this.isShown;
      if (this.isDrawing) requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  async #stop() {
    $("load").value = 0;
    this.load.set(0);
    await Promise.all(this.lanes.map((lane) => lane.stop()));
  }

  #mayStop() {
    $("race-stop").disabled = !this.isRunning && !this.load.wanted && !this.load.open.length;
  }

  #sumUp() {
    const order = this.lanes.filter((lane) => Number.isFinite(lane.p50)).sort((a, b) => a.p50 - b.p50);
    const parts = order.map((lane) => `${lane.backend} ${duration(lane.p50)}`);
    $("race-said").textContent = parts.length ? `Over. Median latency of a chunk: ${parts.join(", ")}.` : "";
  }

  /** Show the buttons for what can be ordered here. */
  async #offerOrders() {
    const { control_url: url } = this.system;
    const names = await possible(url);
    for (const button of document.querySelectorAll("[data-control]")) {
      button.hidden = !names.includes(button.dataset.control);
      button.addEventListener("click", () => this.#order(url, button));
    }
    if (url && !names.length) $("race-hint").textContent = HINT;
  }

  async #order(url, button) {
    button.disabled = true;
    await telling($("race-alert"), () => order(url, button.dataset.control));
    button.disabled = false;
  }

  #showPace() {
    $("pace-shown").textContent = `${$("pace").value} tokens a second`;
  }

  #showLoad(open) {
    const wanted = Number($("load").value);
    $("load-shown").textContent = open === wanted ? `${count(open)} streams` : `${count(open)} of ${wanted} streams`;
    this.#mayStop();
  }
}
