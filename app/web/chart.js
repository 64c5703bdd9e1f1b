// Small charts on a canvas, over the last seconds, in the page's own colours and the screen's own pixels.

import { duration } from "./figures.js";

const LEFT = 52;
const BOTTOM = 18;
const TOP = 8;
const LOG = { low: 0.1, high: 10_000 };
const LOG_TICKS = new Map([[0.1, "100 µs"], [1, "1 ms"], [10, "10 ms"], [100, "100 ms"], [1000, "1 s"], [10_000, "10 s"]]);

/**
 * A canvas whose vertical axis is logarithmic in ms, or linear from 0 if `linear` gives a tick's text. `redraw` is called
 * when its size or the colours have changed.
 */
export class Chart {
  constructor(canvas, { seconds, redraw, linear }) {
    Object.assign(this, { canvas, seconds, linear, context: canvas.getContext("2d") });
    new ResizeObserver(redraw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  /**
   * Clear, and draw the axes; `at` is the time at the right edge in s, `since` at the left one of what is over, `highest`
   * the top of a linear axis.
   */
  begin(at, { highest = 1, since } = {}) {
    const { canvas, context } = this;
    const scale = devicePixelRatio || 1;
    [this.width, this.height] = [canvas.clientWidth, canvas.clientHeight];
    const [wide, high] = [Math.round(this.width * scale), Math.round(this.height * scale)];
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    Object.assign(this, { at, span: since === undefined ? this.seconds : Math.max(at - since, 1) });
    this.highest = this.linear ? niceAbove(highest) : LOG.high;
    this.style = getComputedStyle(canvas);
    this.#axes(since === undefined ? [`${this.seconds} s ago`, "now"] : ["0 s", duration(1000 * this.span)]);
  }

  #axes([left, right]) {
    const { context, style } = this;
    context.font = `12px ${style.fontFamily}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const ticks = this.linear ? [0, this.highest / 2, this.highest] : LOG_TICKS.keys();
    for (const tick of ticks) {
      const y = Math.round(this.y(tick)) + 0.5;
      context.fillStyle = style.getPropertyValue("--line").trim();
      context.fillRect(LEFT, y, this.width - LEFT, 1);
      context.fillStyle = style.getPropertyValue("--soft").trim();
      context.fillText(this.linear ? this.linear(tick) : LOG_TICKS.get(tick), LEFT - 7, y);
    }
    context.textBaseline = "alphabetic";
    context.fillText(right, this.width, this.height - 3);
    context.textAlign = "left";
    context.fillText(left, LEFT, this.height - 3);
  }

  x(at) {
    return this.width - ((this.at - at) / this.span) * (this.width - LEFT);
  }

  y(value) {
    const room = this.height - TOP - BOTTOM;
    const share = this.linear
      ? value / this.highest
      : Math.log(Math.max(value, LOG.low) / LOG.low) / Math.log(LOG.high / LOG.low);
    return TOP + room * (1 - Math.min(1, share));
  }

  #colour(place) {
    return this.style.getPropertyValue(`--series-${place % 5}`).trim();
  }

  /** Draw each [time, value] as a dot. */
  dots(points, place) {
    this.context.fillStyle = this.#colour(place);
    for (const [at, value] of points) {
      const x = this.x(at);
      if (x >= LEFT) this.context.fillRect(x - 1, this.y(value) - 1, 2.5, 2.5);
    }
  }

  /** Draw each [time, label] as an upright line through the whole chart. */
  marks(marks) {
    const { context } = this;
    context.fillStyle = this.style.getPropertyValue("--bad").trim();
    marks.forEach(([at, label], place) => {
      const x = Math.round(this.x(at));
      if (x < LEFT) return;
      context.fillRect(x, TOP, 1, this.height - TOP - BOTTOM);
      const isLate = x + 4 + context.measureText(label).width > this.width;
      context.textAlign = isLate ? "right" : "left";
      context.fillText(label, isLate ? x - 4 : x + 4, TOP + 10 + 13 * (place % 3));
    });
  }

  /** Draw a line through each [time, value]; a value that is no number leaves a gap. */
  line(points, place) {
    const { context } = this;
    context.strokeStyle = this.#colour(place);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    let isDown = false;
    for (const [at, value] of points) {
      const x = this.x(at);
      if (!Number.isFinite(value) || x < LEFT) isDown = false;
      else {
        context[isDown ? "lineTo" : "moveTo"](x, this.y(value));
        isDown = true;
      }
    }
    context.stroke();
  }
}

function niceAbove(value) {
  const step = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((times) => times * step).find((each) => each >= value);
}
