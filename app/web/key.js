// The API key, where the system wants one: asked for once, and kept for this tab.

const KEPT = "streamgauge.key";
const REFUSED = "The server knows no such key. Look whether all of it was copied, or ask who runs it for one.";
let asking;

export const keyHeaders = () => {
  const key = sessionStorage.getItem(KEPT);
  return key ? { Authorization: `Bearer ${key}` } : {};
};

/** Ask for a key, once for all who want one meanwhile; say so if the one before was refused. Tell whether one was given. */
export function askKey(wasRefused) {
  asking ??= new Promise((answer) => {
    const dialog = document.getElementById("key-wanted");
    const field = document.getElementById("key");
    dialog.returnValue = "";
    dialog.addEventListener("close", () => answer(keep(dialog.returnValue === "use" && field.value.trim())), { once: true });
    field.value = "";
    document.getElementById("key-wrong").textContent = wasRefused ? REFUSED : "";
    dialog.showModal();
  }).finally(() => (asking = undefined));
  return asking;
}

function keep(key) {
  if (key) sessionStorage.setItem(KEPT, key);
  return Boolean(key);
}
