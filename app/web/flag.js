// Where new messages go: shown to everybody who has the operator's token, and changed by them.

import { ask } from "./api.js";
import { token } from "./control.js";
import { $, make, telling } from "./elements.js";

const WHO = "the page";
const SHOWN = 6;

const asked = (path, options = {}) => ask(`ops/${path}`, { ...options, headers: { Authorization: `Bearer ${token()}` } });
const percent = (share) => `${Math.round(share * 100) / 100} %`;

/** Say rules in a few words, as the commands do. */
function said(rules, safe) {
  if (!rules) return "by a document of somebody's";
  if (!rules.is_on) return `everything to ${safe}${rules.must_leave ? ", live streams as well" : ""}`;
  const parts = Object.entries(rules.split).filter(([, share]) => share > 0).map(([name, share]) => `${name} ${percent(share)}`);
  return [...parts, ...Object.entries(rules.users).map(([user, backend]) => `${user}: ${backend}`)].join(", ");
}

export class Flag {
  constructor(system) {
    this.backends = system.backends;
    this.isBeingChanged = false;
    $("flag-default").append(...this.backends.map((name) => make("option", {}, name)));
    this.sliders = this.backends.map((name) => this.#slider(name));
    $("flag-default").addEventListener("change", () => this.#mark());
    $("flag-form").addEventListener("submit", (event) => this.#send(event, () => this.#apply()));
    $("flag-reset").addEventListener("click", () => this.#again());
    $("roll-back").addEventListener("click", (event) => this.#send(event, () => this.#rollBack()));
  }

  #slider(name) {
    const shown = make("output", {}, "0 %");
    const range = make("input", { type: "range", min: 0, max: 100, value: 0, name });
    range.addEventListener("input", () => this.#mark());
    const label = make("label", {}, `${name}: `, shown, range);
    $("shares").append(label);
    return { name, shown, range, label };
  }

  /** Read what is in force; without a token, or operators, there is nothing to see. */
  async read() {
    if (!token()) return;
    await telling($("flag-alert"), async () => {
      const found = await asked("flag").catch((problem) => {
        if (problem.status === 404) return undefined;
        throw problem;
      });
      $("flag").hidden = !found;
      if (!found) return;
      const isNew = this.generation !== found.generation;
      this.found = found;
      this.generation = found.generation;
      this.#show();
      if (isNew && !this.isBeingChanged) this.#again();
      if (isNew) await this.#history();
    });
  }

  #show() {
    const { generation, rules, live, safe } = this.found;
    $("flag-said").textContent = generation ? `Generation ${generation}: ${said(rules, safe)}.` : `No document: ${said(rules, safe)}.`;
    const counts = Object.entries(live).map(([name, count]) => `${count} in ${name}`);
    $("flag-live").textContent = counts.length ? `Streaming now: ${counts.join(", ")}.` : "Nothing is streaming.";
    const elsewhere = Object.keys(live).some((name) => name !== safe);
    const isDraining = rules && !rules.is_on && elsewhere;
    $("flag-drain").textContent = isDraining ? "Back to safety; what still streams elsewhere runs to its end." : "";
  }

  #mark() {
    this.isBeingChanged = true;
    this.#sum();
  }

  #again() {
    const rules = this.found?.rules;
    this.isBeingChanged = false;
    if (rules) $("flag-default").value = rules.default;
    for (const { name, range } of this.sliders) range.value = rules?.is_on && name !== rules.default ? (rules.split[name] ?? 0) : 0;
    this.#sum();
  }

  #sum() {
    const chosen = $("flag-default").value;
    const others = this.sliders.filter(({ name }) => name !== chosen);
    const sum = others.reduce((total, { range }) => total + Number(range.value), 0);
    for (const { name, shown, range, label } of this.sliders) {
      label.hidden = name === chosen;
      shown.textContent = percent(Number(range.value));
    }
    $("flag-rest").textContent = sum > 100 ? `${percent(sum - 100)} too much` : percent(100 - sum);
    $("flag-apply").disabled = sum > 100;
  }

  async #apply() {
    const chosen = $("flag-default").value;
    const shares = Object.fromEntries(
      this.sliders.filter(({ name, range }) => name !== chosen && Number(range.value)).map(({ name, range }) => [name, Number(range.value)]),
    );
    const said = { by: WHO, reason: $("flag-reason").value };
    let expected = this.generation;
    const rules = this.found.rules;
    if (!rules || !rules.is_on || rules.default !== chosen) {
      expected = (await asked("flag", { method: "PUT", body: { ...said, default: chosen, expected } })).generation;
    }
    await asked("flag", { method: "PUT", body: { ...said, shares, expected } });
  }

  async #rollBack() {
    const body = { by: WHO, reason: $("flag-reason").value, force: $("flag-force").checked };
    await asked("rollback", { method: "POST", body });
  }

  async #send(event, work) {
    event.preventDefault();
    await telling($("flag-alert"), async () => {
      await work();
      this.isBeingChanged = false;
      $("flag-reason").value = "";
    });
    await this.read();
  }

  async #history() {
    const { broken_at: broken, generations } = await asked("flag/history");
    const rows = generations.slice(0, SHOWN).map((each) =>
      make("tr", {}, make("th", { scope: "row" }, String(each.generation)), make("td", {}, new Date(each.created_at).toLocaleString()),
        make("td", {}, each.by || "–"), make("td", {}, each.reason || "–"), make("td", {}, each.what)));
    $("flag-history").tBodies[0].replaceChildren(...rows);
    $("flag-broken").textContent = broken ? `Generation ${broken} does not follow from the one before: the history was changed.` : "";
  }
}
