// The last guarded rollout, as its controller told it: where it stands, and what the guard last said.

import { $, make } from "./elements.js";

const MOVES = { stepping: "The flag is being moved.", returning: "The flag is being moved back." };

/** Show it beside the flag's generation that is in force; nothing where there never was one. */
export function showRollout(told, generation) {
  $("rollout").hidden = !told;
  if (!told) return;
  const rollout = { ...told, overtakenBy: told.phase === "watching" && generation > told.generation ? generation : null };
  const { candidate, baseline, judgement } = rollout;
  tell($("rollout-title"), `Rollout of ${candidate} against ${baseline}`);
  tell($("rollout-state"), standing(rollout));
  tell($("rollout-next"), next(rollout));
  $("rollout-next").classList.toggle("stale", rollout.is_overdue);
  $("rollout-judgement").hidden = !judgement;
  if (judgement) showJudgement(rollout, judgement);
}

/** Change a text only where it differs: a screen reader says what changed. */
function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function standing({ phase, step, steps, since, due_s: due, judgement, updated_at: at, is_overdue: isOverdue, overtakenBy }) {
  const place = `step ${step} of ${steps.length}, ${steps[step - 1]} %`;
  if (due === null) return `${capital(phase)} at ${place}, ${moment(at)}.`;
  if (overtakenBy !== null) return `${capital(place)}: overtaken.`;
  const began = phase === "watching" && since ? ` since ${moment(since)}` : "";
  const guard = judgement ? ` The guard: ${judgement.verdict}.` : "";
  return `${capital(place)}: ${phase}${began}${isOverdue ? ", overdue" : ""}.${guard}`;
}

function next({ phase, due_s: due, silent_s: silent, is_overdue: isOverdue, why, overtakenBy }) {
  if (due === null) return why;
  if (overtakenBy !== null) return `Somebody changed the flag, to generation ${overtakenBy}, which this rollout leaves alone: it ends.`;
  if (isOverdue) return `No word of its controller for ${span(silent)}: resume it with \`streamgauge rollout --resume\`.`;
  return MOVES[phase] ?? (due > 0 ? `Next judgement in ${span(due)}.` : "The next judgement is due.");
}

function showJudgement({ candidate, baseline }, judgement) {
  const { at, percent, verdict, beside, decision, objectives } = judgement;
  const said = `${at} ${verdict} ${decision}`;
  if ($("rollout-judgement").dataset.said === said) return;
  $("rollout-judgement").dataset.said = said;
  $("judgement-said").textContent = `Judged ${moment(at)} at ${percent} %, beside ${beside}: ${decision}.`;
  $("judgement-candidate").textContent = candidate;
  $("judgement-baseline").textContent = baseline;
  const figures = objectives.filter((each) => each.candidate || each.baseline);
  $("judgement-region").hidden = !figures.length;
  $("judgement-figures").tBodies[0].replaceChildren(...figures.map(row));
  const reasons = verdict === "pass" ? [] : objectives.filter((each) => each.verdict === verdict);
  $("judgement-reasons").replaceChildren(...reasons.map(({ reason }) => make("li", {}, reason)));
}

function row({ name, candidate, baseline, verdict }) {
  const cells = [candidate, baseline].map((text) => make("td", {}, text || "–"));
  return make("tr", {}, make("th", { scope: "row" }, name), ...cells, make("td", { className: verdict }, verdict));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const moment = (at) => new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

function span(s) {
  const whole = Math.max(1, Math.round(s));
  if (whole < 120) return `${whole} s`;
  return whole < 7200 ? `${Math.round(whole / 60)} min` : `${Math.round(whole / 3600)} h`;
}
