// The race: one prompt through every backend at once, the model's pace, a background load, and things to break.

import { Clock, now } from "./clock.js";
import { order, possible } from "./control.js";
import { $, allow, mayAct, telling, tellSlider } from "./elements.js";
import { clockTime, count, duration, plural, ranking } from "./figures.js";
import { Lane } from "./lane.js";
import { Load } from "./load.js";
import { Polling } from "./polling.js";

const LENGTH_S = 12;
const FEWEST_CHUNKS = 40;
const FIGURES_MS = 250;
const ASK_MS = 700;
const DRAW_MS = 25; // the charts move by less than a pixel meanwhile
const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const RACING = "Racing.";
const HINT = "To pause the worker or restart Valkey, open the page by the address that `streamgauge up` prints.";
const STRIKES = {
  "worker/pause": {
    marks: ["worker paused", "worker goes on"],
    doing: "The worker is paused: nothing comes for 5 s. The gap shows it, and no latency: that begins when the worker stamps a chunk.",
    done: (took) => `The worker was paused for ${took}.`,
  },
  "valkey/restart": {
    marks: ["Valkey stopped", "Valkey back"],
    doing: "Valkey restarts: what was in it is lost.",
    done: (took) => `Valkey was restarted in ${took}, and came back empty.`,
  },
};

export class Race {
  constructor(system) {
    this.system = system;
    this.lanes = system.backends.map((backend, place) => new Lane(backend, place));
    $("lanes").replaceChildren(...this.lanes.map((lane) => lane.element));
    for (const each of document.querySelectorAll("#race [data-scripted]")) each.hidden = !system.scripted;
    this.load = new Load(system.backends, {
      failed: (error, at) => this.#tellLoad(error, at),
      well: () => ($("race-alert").textContent = ""),
      changed: (open) => this.#showLoad(open),
    });
    $("start-race").addEventListener("submit", (event) => this.#start(event));
    $("race-stop").addEventListener("click", () => telling($("race-alert"), () => this.#stop()));
    $("cut").addEventListener("click", () => this.#cut());
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

  /** Whether something runs that a reload would end. */
  get isBusy() {
    return Boolean(this.isRunning || this.load.wanted || this.load.open.length);
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
    this.#bringIntoView();
    $("race-struck").textContent = "";
    await telling($("race-alert"), async () => {
      $("race-said").textContent = "";
      const clock = await Clock.compared();
      $("race-said").textContent = RACING;
      const asking = new Polling({ everyMs: ASK_MS, look: () => this.#compare(clock) });
      asking.start();
      await this.#race($("prompt").value, this.model, clock).finally(() => {
        asking.stop();
        this.#tellClock(clock);
        this.#sumUp(clock);
      });
    });
    this.#run(false);
  }

  /** On a small screen the lanes are below it, and what they say begins at once. */
  #bringIntoView() {
    const { bottom } = document.querySelector(".lane .lane-text").getBoundingClientRect();
    if (bottom > innerHeight) $("race-outcome").scrollIntoView({ behavior: CALM.matches ? "instant" : "smooth" });
  }

  /** Run every lane to its end, whatever becomes of the others; then throw what went wrong in the first that failed. */
  async #race(prompt, model, clock) {
    const results = await Promise.allSettled(this.lanes.map((lane) => lane.run(prompt, model, clock)));
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }

  /** Ask the clock once more; where that fails, what is known already must do. */
  async #compare(clock) {
    const isWell = await clock.ask().then(() => true, () => false);
    this.#tellClock(clock);
    return isWell;
  }

  #tellClock({ bound }) {
    $("race-clock").textContent = `Clock: within ±${duration(bound)} of the server's.`;
  }

  #run(isRunning) {
    this.isRunning = isRunning;
    allow($("race-go"), !isRunning);
    allow($("cut"), isRunning);
    this.#mayStop();
    if (!isRunning) return clearInterval(this.showing);
    this.showing = setInterval(() => document.hidden || this.lanes.forEach((lane) => lane.show()), FIGURES_MS);
    return this.#draw();
  }

  #draw() {
    if (!this.isShown || this.isDrawing) return;
    this.isDrawing = true;
    const draw = () => {
      for (const lane of this.lanes) lane.draw();
      this.isDrawing = this.isRunning && this.isShown;
      if (this.isDrawing) setTimeout(() => requestAnimationFrame(draw), CALM.matches ? FIGURES_MS : DRAW_MS);
    };
    requestAnimationFrame(draw);
  }

  async #stop() {
    if (!mayAct($("race-stop"))) return;
    $("load").value = 0;
    this.load.set(0);
    if (!this.isRunning) return;
    $("race-said").textContent = "Stopping…";
    try {
      await Promise.all(this.lanes.map((lane) => lane.stop()));
    } catch (error) {
      if (this.isRunning) $("race-said").textContent = RACING;
      throw error;
    }
  }

  #mayStop() {
    allow($("race-stop"), this.isBusy);
  }

  /** Rank the lanes that ran to their end by their own backend, as far as the clock can tell; say why not the others. */
  #sumUp({ bound }) {
    const ranked = this.lanes.filter((lane) => !lane.excuse && Number.isFinite(lane.p50));
    const order = ranking(ranked.map((lane) => [lane.backend, lane.p50]), bound);
    const excused = Map.groupBy(this.lanes.filter((lane) => lane.excuse), (lane) => lane.excuse);
    const left = [...excused].map(([excuse, lanes]) => `${lanes.map((lane) => lane.backend).join(", ")}: ${excuse}, not ranked.`);
    const told = order ? `Median latency of a chunk: ${order}.` : "";
    const ending = this.lanes.some((lane) => lane.isStopped) ? "Stopped." : "Over.";
    $("race-said").textContent = [ending, told, ...left].filter(Boolean).join(" ");
  }

  #cut() {
    if (!mayAct($("cut"))) return;
    for (const lane of this.lanes) {
      lane.strike("cut");
      lane.cut();
    }
    $("race-struck").textContent = "The connections were cut: each lane stays away for 1 s and resumes.";
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
    if (!mayAct(button)) return;
    const { marks, doing, done } = STRIKES[button.dataset.control];
    const said = $("race-struck");
    const begun = now();
    allow(button, false);
    for (const lane of this.lanes) lane.strike(marks[0]);
    said.textContent = doing;
    const obeyed = await telling($("race-alert"), () => order(url, button.dataset.control));
    if (obeyed) for (const lane of this.lanes) lane.strike(marks[1]);
    said.textContent = obeyed ? done(duration(now() - begun)) : "";
    allow(button, true);
  }

  #showPace() {
    tellSlider($("pace"), `${$("pace").value} tokens a second`);
  }

  #tellLoad(error, at) {
    const next = at ? ` The load goes on by itself; the next try is at ${clockTime(at)}.` : "";
    $("race-alert").textContent = error.message + next;
  }

  #showLoad(open) {
    const wanted = Number($("load").value);
    const shown = open === wanted ? plural(open, "stream") : `${count(open)} of ${plural(wanted, "stream")}`;
    tellSlider($("load"), plural(wanted, "stream"), shown);
    this.#mayStop();
  }
}
