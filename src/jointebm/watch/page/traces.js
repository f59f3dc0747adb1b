// Below the chains: traces of log p, acceptance of each kernel, effective draws, and visits of each class.

import { lyingBars } from "./bars.js";
import { byId, element, short } from "./dom.js";
import { logDensityName } from "./tiles.js";
import uPlot from "./vendor/uplot.js";

const KEPT = 400; // frames of a trace
const HEIGHT = 190;
const SLOW = 6; // frames between updates of all but the tiles

export class Traces {
  constructor(view) {
    this.view = view;
    this.clear();
    byId("trace-title").textContent = `${logDensityName(view)} of each ${view.kind === "table" ? "row" : "chain"}`;
    this.kernels = null;
    this.visits = view.kind === "table" ? tableVisits(view) : blockVisits(view);
    byId("visits").replaceChildren(...this.visits.map(({ title, bars }) =>
      element("div", { className: "visit" }, element("h4", { textContent: title }), bars.node)));
    byId("visits-figure").hidden = this.visits.length === 0;
    new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: HEIGHT })).observe(byId("log-density"));
    this.build();
    this.count = 0;
  }

  width() {
    return Math.max(200, byId("log-density").clientWidth);
  }

  clear() {
    this.data = Array.from({ length: this.view.num_chains + 1 }, () => []);
  }

  build() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const series = Array.from({ length: this.view.num_chains }, (_, chain) => ({
      label: `chain ${chain + 1}`, stroke: colour("--accent"), width: 1, alpha: 0.45, points: { show: this.view.kind === "table", size: 3 },
    }));
    this.plot?.destroy();
    this.plot = new uPlot({
      width: this.width(), height: HEIGHT, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false } }, series: [{}, ...series],
      axes: [{ ...axis, label: "step", labelSize: 16, labelFont: "11px system-ui", size: 26 }, { ...axis, size: 58 }],
    }, this.data, byId("log-density"));
  }

  show(frame, before) {
    if (before && frame.step < before.step) this.clear();
    if (frame.arrays.f) {
      if (frame.step === this.data[0].at(-1)) this.data.forEach((values) => values.pop()); // what is clamped has changed
      this.data[0].push(frame.step);
      frame.arrays.f.values.forEach((f, chain) => this.data[chain + 1].push(f - (this.view.log_normalizer ?? 0)));
      if (this.data[0].length > KEPT) this.data.forEach((values) => values.shift());
    }
    if (frame.convergence) {
      const { ess, r_hat: rHat, states } = frame.convergence;
      const draws = ess === null ? "" : `ess ${short(ess)}`;
      byId("convergence").textContent = this.view.kind === "table"
        ? (ess === null ? "exact draws" : `least ess of the draws ${short(ess)}`)
        : `${draws} of ${states * this.view.num_chains} states${rHat === null ? "" : `, split R-hat ${rHat.toFixed(2)}`}`;
    }
    this.count += 1;
    if (this.count % SLOW !== 1 && frame.step > 3) return;
    this.plot.setData(this.data);
    this.acceptance(frame);
    for (const { bars, shares } of this.visits) bars.update(shares(frame));
  }

  acceptance(frame) {
    const names = frame.kernels ?? this.view.kernels ?? [];
    byId("accept-figure").hidden = names.length === 0;
    if (!frame.accept) return;
    if (this.kernels?.join() !== names.join()) {
      this.kernels = names;
      this.accept = lyingBars(names, "Acceptance of each kernel");
      byId("accept").replaceChildren(this.accept.node);
    }
    this.accept.update(frame.accept);
  }
}

const normalised = (counts) => {
  const total = counts.reduce((sum, each) => sum + each, 0);
  return counts.map((each) => (total ? each / total : 0));
};

function blockVisits(view) {
  return view.blocks
    .filter((block) => block.kind !== "real" && !block.grid)
    .flatMap((block) => block.classes.map((count, variable) => ({
      title: block.num_variables > 1 ? `${block.name}[${variable}]` : block.name,
      bars: lyingBars(Array.from({ length: count }, (_, value) => String(value)), `Visits of each class of ${block.name}`),
      shares: (frame) => normalised(frame.visits?.[block.name]?.[variable] ?? []),
    })));
}

function tableVisits(view) {
  return view.columns
    .filter((column) => column.kind === "category" && column.bars <= 12)
    .map((column) => ({
      title: column.name,
      bars: lyingBars(column.levels.slice(0, column.bars).map(String), `Visits of each level of ${column.name}`),
      shares: (frame) => normalised(frame.visits?.[column.name] ?? []),
    }));
}
