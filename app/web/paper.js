// Text that grows, written to the page once a frame however often it grows.

const NODE_CHARS = 2000; // a long text in pieces, so that each frame touches a short one

export class Paper {
  constructor(element) {
    this.element = element;
    this.text = "";
    this.shown = 0;
    this.isDue = false;
  }

  add(text) {
    this.text += text;
    this.#later();
  }

  set(text) {
    this.text = text;
    this.shown = 0;
    this.node = null;
    this.element.replaceChildren();
    this.#later();
  }

  #later() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => this.isDue && this.write());
  }

  /** Write what is due, at once: before something is said of the whole text. */
  write() {
    this.isDue = false;
    if (!this.node || this.node.length > NODE_CHARS) {
      this.node = document.createTextNode("");
      this.element.append(this.node);
    }
    this.node.appendData(this.text.slice(this.shown));
    this.shown = this.text.length;
  }
}

/** Call `draw` in the next frame, once, however often it is asked for until then. */
export function eachFrame(draw) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame((now) => {
      isDue = false;
      draw(now);
    });
  };
}
