// The flag, for its operator: where new messages go, a split to set, the way back, and who changed it when.

import { ask } from "./api.js";
import { $, make, telling, tellSlider } from "./elements.js";
import { count, series } from "./figures.js";
import { token, tokenHeaders } from "./operator.js";

const EVERY_MS = 2000;
const SHOWN = 8; // generations

const operate = (path, options = {}) => ask(path, { ...options, headers: tokenHeaders() });

export class Flag {
  constructor(system) {
    this.backends = system.backends;
    $("flag-operator").hidden = !token();
    $("flag-stranger").hidden = Boolean(token());
    $("share").addEventListener("input", () => this.#showShare());
    $("candidate").addEventListener("change", () => this.#showCandidate());
    $("flag-set").addEventListener("submit", (event) => this.#split(event));
    $("all").addEventListener("click", () => this.#change("ops/flag", "PUT", { default: $("candidate").value }));
    $("rollback").addEventListener("click", () => this.#rollBack());
  }

  show() {
    if (!token()) return;
    this.#read();
    this.reading = setInterval(() => this.#read(), EVERY_MS);
  }

  hide() {
    clearInterval(this.reading);
  }

  /** Look at what is in force; what somebody is setting meanwhile is left alone. */
  async #read() {
    if (document.visibilityState !== "visible") return;
    await telling($("flag-alert"), async () => {
      const flag = await operate("ops/flag");
      const isNew = flag.generation !== this.flag?.generation;
      this.flag = flag;
      this.#showDrain();
      if (isNew) await this.#showGeneration();
    });
  }

  async #showGeneration() {
    const { rules, generation, safe } = this.flag;
    $("rollback").textContent = `Roll back to ${safe}`;
    $("split").replaceChildren(...(rules ? this.#shares(rules) : [make("p", {}, "A document of somebody's own.")]));
    const state = rules && !rules.is_on ? ", rolled back" : "";
    const rest = rules ? ` What no share takes goes to ${rules.default}.` : "";
    $("generation").textContent = `Generation ${generation}${state}.${rest}`;
    this.#offer(this.backends.filter((backend) => backend !== rules?.default));
    const { generations, broken_at: broken } = await operate("ops/flag/history");
    $("flag-history").replaceChildren(...generations.slice(0, SHOWN).map((each) => this.#told(each)));
    $("flag-broken").textContent = broken ? `Generation ${broken} does not follow from the one before: somebody altered it.` : "";
  }

  #shares({ split }) {
    const given = Object.entries(split).filter(([, share]) => share);
    return given.map(([backend, share]) => {
      const part = make("li", {}, make("b", {}, backend), ` ${count(share, 2)} %`);
      part.style.setProperty("--series", series(this.backends.indexOf(backend)));
      part.style.flexGrow = share;
      return part;
    });
  }

  #told({ generation, created_at: at, by, reason }) {
    const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
    return make("li", {}, make("b", {}, `${generation}`), ` ${when}, ${by}${reason ? `: ${reason}` : ""}`);
  }

  /** Offer what can have a share; one that is chosen stays chosen. */
  #offer(choices) {
    const chosen = $("candidate").value;
    $("candidate").replaceChildren(...choices.map((backend) => make("option", {}, backend)));
    if (choices.includes(chosen)) $("candidate").value = chosen;
    this.#showCandidate();
  }

  #showCandidate() {
    $("share").value = this.flag.rules?.split[$("candidate").value] ?? 0;
    $("all").textContent = `All to ${$("candidate").value}`;
    this.#showShare();
  }

  #showShare() {
    tellSlider($("share"), `${$("share").value} %`);
  }

  /** Say what still streams elsewhere than on the safe backend, after a rollback. */
  #showDrain() {
    const { rules, live, safe } = this.flag;
    const left = Object.entries(live).filter(([backend, streams]) => streams && backend !== safe);
    const told = left.map(([backend, streams]) => `${count(streams)} on ${backend}`).join(", ");
    if (!rules || rules.is_on) $("drain").textContent = "";
    else $("drain").textContent = left.length ? `Draining: ${told}.` : `Drained: nothing streams outside ${safe}.`;
  }

  async #split(event) {
    event.preventDefault();
    await this.#change("ops/flag", "PUT", { shares: { [$("candidate").value]: Number($("share").value) } });
  }

  async #rollBack() {
    await this.#change("ops/rollback", "POST", { force: $("force").checked });
  }

  async #change(path, method, body) {
    const said = { by: $("by").value.trim() || "the page", reason: $("reason").value.trim() };
    const changed = await telling($("flag-alert"), () => operate(path, { method, body: { ...body, ...said } }));
    if (!changed) return;
    $("reason").value = "";
    $("flag-said").textContent = `Generation ${changed.generation}: ${changed.said}.`;
    await this.#read();
  }
}
