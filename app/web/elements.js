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
