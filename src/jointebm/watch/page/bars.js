// Bars of shares: lying, with a label each, or standing, for numbers.

import { element, percent } from "./dom.js";

/** Lying bars, one per label; `update` takes shares. */
export function lyingBars(labels, description) {
  const rows = labels.map((label) => {
    const fill = element("span", { className: "fill" });
    const value = element("span", { className: "value" });
    const name = element("span", { className: "name", textContent: label, title: label });
    return { node: element("li", {}, name, element("span", { className: "bar" }, fill), value), fill, value, share: -1 };
  });
  const node = element("ul", { className: "bars", "aria-label": description }, ...rows.map((row) => row.node));
  const update = (shares, written = percent) => {
    const best = Math.max(...shares);
    rows.forEach((row, at) => {
      const share = shares[at] ?? 0;
      if (Math.abs(share - row.share) < 1e-4) return;
      row.share = share;
      row.fill.style.width = `${100 * Math.min(1, share)}%`;
      row.value.textContent = written(share);
      row.node.classList.toggle("best", share === best && share > 0);
    });
  };
  return { node, update };
}

/** Standing bars on a canvas: the model filled, the training rows as a line, marks as ticks. */
export class StandingBars {
  constructor(description, { height = 40 } = {}) {
    this.canvas = element("canvas", { className: "standing", role: "img", "aria-label": description });
    this.height = height;
    this.parts = { outline: null, shares: null, marks: [], range: [0, 1] };
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  set(parts) {
    Object.assign(this.parts, parts);
    this.draw();
  }

  draw() {
    const { outline, shares, marks, range } = this.parts;
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width) return;
    const [w, h] = [Math.round(width * scale), Math.round(this.height * scale)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name);
    pen.clearRect(0, 0, w, h);
    const top = Math.max(...(outline ?? [0]), ...(shares ?? [0])) || 1;
    const base = h - 4 * scale;
    const rise = (share) => (share / top) * (base - scale);
    const bars = (values, fill) => {
      const step = w / values.length;
      pen.fillStyle = fill;
      values.forEach((share, at) => pen.fillRect(at * step, base - rise(share), Math.max(1, step - scale), rise(share)));
    };
    if (outline) bars(outline, colour("--faint"));
    if (shares) {
      pen.globalAlpha = 0.75;
      bars(shares, colour("--accent"));
      pen.globalAlpha = 1;
    }
    pen.fillStyle = colour("--line");
    pen.fillRect(0, base, w, scale);
    pen.fillStyle = colour("--flash");
    const [low, high] = range;
    for (const mark of marks) {
      const x = ((mark - low) / (high - low)) * w;
      pen.globalAlpha = 0.7;
      pen.fillRect(Math.min(w - 2 * scale, Math.max(0, x - scale)), base - 5 * scale, 2 * scale, 9 * scale);
    }
    pen.globalAlpha = 1;
  }
}
