// The flag, for its operator: where new messages go, a split to set, the way back, and who changed it when.

import { Problem, ask } from "./api.js";
import { $, make, telling, tellSlider } from "./elements.js";
import { clockTime, count, series } from "./figures.js";
import { forgetToken, token, tokenHeaders } from "./operator.js";
import { Polling } from "./polling.js";
import { showRollout } from "./rollout.js";

const EVERY_MS = 2000;
const SHOWN = 8; // generations
const REFUSED =
  "The server refused this tab's operator token, and the tab has forgotten it. `streamgauge up` makes a new one each " +
  "time: open the page by the address that it printed last.";

const operate = (path, options = {}) => ask(path, { ...options, headers: tokenHeaders() });

export class Flag {
  constructor(system) {
    this.backends = system.backends;
    this.polling = new Polling({
      everyMs: EVERY_MS,
      look: () => this.#read(),
      waits: (at) => ($("flag-again").textContent = at ? `The next try is at ${clockTime(at)}.` : ""),
    });
    this.#welcome();
    $("share").addEventListener("input", () => this.#showShare());
    $("candidate").addEventListener("change", () => this.#showCandidate());
    $("flag-set").addEventListener("submit", (event) => this.#split(event));
    $("all").addEventListener("click", () => this.#set({ default: $("candidate").value }));
    $("rollback").addEventListener("click", () => this.#rollBack());
  }

  /** Show the operator's part to whoever has a token. */
  #welcome() {
    $("flag-operator").hidden = !token();
    $("flag-stranger").hidden = Boolean(token());
  }

  show() {
    if (token()) this.polling.start();
  }

  hide() {
    this.polling.stop();
  }

  /** Look at what is in force; what somebody is setting meanwhile is left alone. Tell whether it could be seen. */
  async #read() {
    return Boolean(token() && (await telling($("flag-alert"), () => this.#take())));
  }

  async #take() {
    const flag = await this.#operate("ops/flag");
    const isNew = flag.generation !== this.flag?.generation;
    this.flag = flag;
    this.#showDrain();
    showRollout(flag.rollout, flag.generation);
    if (flag.generation !== this.saidOf) $("flag-said").textContent = "";
    if (isNew) await this.#showGeneration();
    return true;
  }

  async #showGeneration() {
    const { rules, generation, safe } = this.flag;
    $("rollback").textContent = `Roll back to ${safe}`;
    $("split").replaceChildren(...(rules ? this.#shares(rules) : [make("p", {}, "A document of somebody's own.")]));
    const state = rules && !rules.is_on ? ", rolled back" : "";
    const rest = rules ? ` What no share takes goes to ${rules.default}.` : "";
    $("generation").textContent = `Generation ${generation}${state}.${rest}`;
    this.#offer(this.backends.filter((backend) => backend !== rules?.default));
    const { generations, broken_at: broken } = await this.#operate("ops/flag/history");
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

  #told({ generation, created_at: at, by, reason, what }) {
    const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
    const why = `${when}, ${by}${reason ? `: ${reason}` : ""}`;
    return make("li", {}, make("b", {}, `${generation} ${what}`), ` ${why}`);
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
    await this.#set({ shares: { [$("candidate").value]: Number($("share").value) } });
  }

  /** Change what is shown here, and nothing that somebody else has put in its place. */
  async #set(edit) {
    await this.#change("ops/flag", "PUT", { ...edit, expected: this.flag?.generation });
  }

  /** The way back asks for no generation: it is to work whatever others do. */
  async #rollBack() {
    await this.#change("ops/rollback", "POST", { force: $("force").checked });
  }

  async #change(path, method, body) {
    const said = { by: $("by").value.trim() || "the page", reason: $("reason").value.trim() };
    $("flag-said").textContent = "";
    const changed = await telling($("change-alert"), () => this.#operate(path, { method, body: { ...body, ...said } }));
    if (changed) {
      $("reason").value = "";
      this.saidOf = changed.generation;
      $("flag-said").textContent = `Generation ${changed.generation}: ${changed.said}.`;
    }
    await this.#read();
  }

  /** Ask as the operator; a token that is refused is forgotten, and a flag that moved is told of by who moved it. */
  async #operate(path, options) {
    try {
      return await operate(path, options);
    } catch (error) {
      if ([401, 403].includes(error.status)) throw this.#turnedAway();
      if (error.status === 409) throw await this.#overtaken();
      throw error;
    }
  }

  #turnedAway() {
    forgetToken();
    this.hide();
    this.#welcome();
    $("flag-alert").textContent = REFUSED; // what else would say it is hidden
    return new Problem(REFUSED, 401);
  }

  async #overtaken() {
    const { generations } = await operate("ops/flag/history");
    const { generation, by, what } = generations[0];
    return new Problem(`Nothing was changed: ${by} was first, with generation ${generation}, ${what}. Look at it, then say it again.`);
  }
}
