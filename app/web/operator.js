// Who the operator is: whoever opened the page by the address that `streamgauge up` printed.

const KEPT = "streamgauge.token";

/** Take the operator's token out of the address (#token=…), where no server ever sees it, and keep it for this tab; tell if one was there. */
export function takeToken() {
  const found = /^#token=([!-~]+)$/.exec(location.hash);
  if (!found) return false;
  sessionStorage.setItem(KEPT, found[1]);
  history.replaceState(null, "", location.pathname);
  return true;
}

/** Forget a token that the server refused. */
export const forgetToken = () => sessionStorage.removeItem(KEPT);

export const token = () => sessionStorage.getItem(KEPT) ?? "";

export const tokenHeaders = () => (token() ? { Authorization: `Bearer ${token()}` } : {});
