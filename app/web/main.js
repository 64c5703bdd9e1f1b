// Opens the view that the address names: #chat, #chat/CONVERSATION, #race or #live.

import { ask } from "./api.js";
import { Chat } from "./chat.js";
import { $ } from "./elements.js";
import { Live } from "./live.js";
import { takeToken } from "./operator.js";
import { Race } from "./race.js";
import { turnTitleTo } from "./title.js";

const AGAIN_MS = 2000;
const VIEWS = { chat: Chat, race: Race, live: Live };
const views = {};
let shown = "";

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

async function start() {
  takeToken();
  let system;
  while (!system) {
    try {
      system = await ask("web/system.json");
    } catch (error) {
      $("net").textContent = error.message;
      await new Promise((wake) => setTimeout(wake, AGAIN_MS));
    }
  }
  tellNetwork();
  for (const [name, View] of Object.entries(VIEWS)) views[name] = new View(system);
  addEventListener("hashchange", () => (takeToken() ? location.reload() : route()));
  route();
}

addEventListener("online", tellNetwork);
addEventListener("offline", tellNetwork);
start();
