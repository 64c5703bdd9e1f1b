// Notices that the server has another version of this page, or offers something else: a deploy. To reload is offered
// while nothing runs here, and is up to whoever reads.

import { $, make } from "./elements.js";

const LOOK_MS = 1000;
const TOLD = "The server has a newer version of this page.";

/** Offer to reload from now on, whenever the page is not busy. */
export function offerReload(isBusy) {
  let isOffered = false;
  const look = () => {
    if (isOffered === !isBusy()) return;
    isOffered = !isOffered;
    const reload = make("button", { type: "button", onclick: () => location.reload() }, "Reload");
    $("newer").replaceChildren(...(isOffered ? [make("span", {}, TOLD), reload] : []));
  };
  look();
  setInterval(look, LOOK_MS);
}
