// Opens the view that the address names: #chat, #chat/CONVERSATION, #race or #live.

import { Problem, ask } from "./api.js";
import { Chat } from "./chat.js";
import { $ } from "./elements.js";
import { clockTime } from "./figures.js";
import { Live } from "./live.js";
import { offerReload } from "./newer.js";
import { takeToken } from "./operator.js";
import { Polling } from "./polling.js";
import { Race } from "./race.js";
import { turnTitleTo } from "./title.js";

const EVERY_MS = 60_000;
const VIEWS = { chat: Chat, race: Race, live: Live };
const views = {};
let shown = "";
let offered = ""; // by the server, in its own words

function tellNetwork() {
  $("net").textContent = navigator.onLine ? "" : "No network: answers go on at the server.";
}

function route() {
  const [wanted, detail] = location.hash.slice(1).split("/");
  const name = VIEWS[wanted] ? wanted : "chat";
  if (wanted === "main" && shown) return; // the link that skips to the content
  if (shown && shown !== name) views[shown].hide();
  for (const each of Object.keys(VIEWS)) $(each).hidden = each !== name;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  turnTitleTo(name);
  if (name === "chat" || shown !== name) views[name].show(detail);
  shown = name;
}

/** The server says what it offers: open the page by that; if it says something else later, it was renewed. */
function hear(system) {
  const told = JSON.stringify(system);
  if (!offered) open(system);
  else if (told !== offered) {
    asking.stop();
    offerReload(() => Object.values(views).some((view) => view.isBusy));
  }
  offered ||= told;
  return true;
}

function miss(error) {
  if (!(error instanceof Problem)) throw error;
  if (!offered) $("net").textContent = error.message;
  return false;
}

function tellNext(at) {
  if (at && !offered) $("net").append(` The next try is at ${clockTime(at)}.`);
}

function open(system) {
  tellNetwork();
  for (const [name, View] of Object.entries(VIEWS)) views[name] = new View(system);
  addEventListener("hashchange", () => (takeToken() ? location.reload() : route()));
  route();
}

addEventListener("online", tellNetwork);
addEventListener("offline", tellNetwork);
takeToken();
const asking = new Polling({ everyMs: EVERY_MS, look: () => ask("web/system.json").then(hear, miss), waits: tellNext });
asking.start();
