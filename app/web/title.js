// The tab's title: what each view shows and how that stands, also for somebody who looks at another tab meanwhile.

const said = { chat: "Chat", race: "Race", live: "Live" };
let shown = "chat";

/** Say what a view shows. */
export function entitle(view, ...parts) {
  said[view] = parts.filter(Boolean).join(" · ");
  write();
}

export function turnTitleTo(view) {
  shown = view;
  write();
}

function write() {
  document.title = `${said[shown]} · streamgauge`;
}
