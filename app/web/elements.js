// The page's elements, found and made without markup in strings.

import { Problem } from "./api.js";

export const $ = (id) => document.getElementById(id);

/** Make an element: make("p", {className: "hint"}, "text", otherElement). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);

/** Let a button act or not; unlike one that is `disabled` it keeps the focus, so its click has to ask `mayAct`. */
export const allow = (button, may) => button.setAttribute("aria-disabled", String(!may));
export const mayAct = (button) => button.getAttribute("aria-disabled") !== "true";

/** Say where a slider stands, with its unit, beside it and to a screen reader. */
export function tellSlider(slider, text, shown = text) {
  slider.setAttribute("aria-valuetext", text);
  $(`${slider.id}-shown`).textContent = shown;
}

/** Show in an alert what went wrong with `work`, and clear it when it goes well. */
export async function telling(alert, work) {
  try {
    const result = await work();
    alert.textContent = "";
    return result;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    alert.textContent = error.message;
    return undefined;
  }
}
