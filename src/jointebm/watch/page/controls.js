// Controls of the blocks of a model: switches, chips and sliders, each with a lock.

import { StandingBars } from "./bars.js";
import { ICONS, element, icon, percent, short } from "./dom.js";
import { paintControl } from "./painting.js";

/** A control per block; each has `node`, `refresh()` after a change and `show(frame, chain)`. */
export function blockControls(view, known, session) {
  return view.blocks.map((block) => {
    if (block.grid) return paintControl(block, known, session);
    const parts = Array.from({ length: block.num_variables }, (_, variable) => {
      const label = block.num_variables > 1 ? `${block.name}[${variable}]` : block.name;
      const make = { binary: switchControl, category: chipsControl, real: sliderControl }[block.kind];
      return make(block, variable, label, known, session);
    });
    return {
      node: element("div", { className: "block" }, ...parts.map((part) => part.node)),
      refresh: () => parts.forEach((part) => part.refresh()),
      show: (frame, chain) => parts.forEach((part) => part.show(frame, chain)),
    };
  });
}

/** A button that locks a control at what the marked chain shows, or frees it. */
export function lockButton(label, isLocked, toggle) {
  const button = element("button", { type: "button", className: "lock" });
  const refresh = () => {
    const locked = isLocked();
    button.setAttribute("aria-pressed", locked);
    button.setAttribute("aria-label", `Lock ${label}`);
    button.title = locked ? `Free ${label}` : `Lock ${label} at the marked chain`;
    button.replaceChildren(icon(locked ? ICONS.locked : ICONS.free));
  };
  button.addEventListener("click", toggle);
  refresh();
  return { node: button, refresh };
}

/** The head of a control: its name, a note and its lock. */
export function controlHead(label, isLocked, toggle) {
  const note = element("span", { className: "facts" });
  const lock = lockButton(label, isLocked, toggle);
  const name = element("span", { className: "control-name", textContent: label });
  return { node: element("div", { className: "control-head" }, name, note, lock.node), note, refresh: lock.refresh };
}

function variableOf(block, variable, label, known, session) {
  const get = () => known.variable(block.name, variable);
  const set = (value) => known.setVariable(block.name, block.num_variables, variable, value);
  const isLocked = () => get() !== null;
  const present = (frame = session.frame, chain = session.chain) =>
    frame?.arrays[`value:${block.name}`].values[chain * block.num_variables + variable];
  const head = controlHead(label, isLocked, () => set(isLocked() ? null : present()));
  const wrap = (...children) => {
    const node = element("div", { className: "control", role: "group", "aria-label": label }, head.node, ...children);
    return node;
  };
  return { get, set, isLocked, present, head, wrap };
}

function switchControl(block, variable, label, known, session) {
  const of = variableOf(block, variable, label, known, session);
  const knob = element("button", { type: "button", className: "switch", role: "switch", "aria-label": label });
  const value = element("span", { className: "switch-value" });
  knob.addEventListener("click", () => of.set((of.get() ?? of.present() ?? 0) > 0 ? 0 : 1));
  const node = of.wrap(element("div", { className: "switch-line" }, knob, value));
  const refresh = () => {
    const locked = of.isLocked();
    node.classList.toggle("locked", locked);
    of.head.refresh();
    const on = (of.get() ?? of.present() ?? 0) > 0;
    knob.setAttribute("aria-checked", on);
    value.textContent = on ? "1" : "0";
  };
  const show = (frame) => {
    const probs = frame.probs?.[block.name];
    if (probs) of.head.note.textContent = `p(1 | rest) ${percent(probs[variable][1])}`;
    if (!of.isLocked()) refresh();
  };
  refresh();
  return { node, refresh, show };
}

function chipsControl(block, variable, label, known, session) {
  const of = variableOf(block, variable, label, known, session);
  const chips = Array.from({ length: block.classes[variable] }, (_, value) => {
    const fill = element("span", { className: "chip-fill" });
    const share = element("span", { className: "chip-share" });
    const text = element("span", { className: "chip-text", textContent: value });
    const chip = element("button", { type: "button", className: "chip" }, fill, text, share);
    chip.addEventListener("click", () => of.set(of.get() === value ? null : value));
    return { chip, fill, share, value };
  });
  const node = of.wrap(element("div", { className: "chips" }, ...chips.map(({ chip }) => chip)));
  of.head.note.textContent = "p(class | rest)";
  const refresh = () => {
    node.classList.toggle("locked", of.isLocked());
    of.head.refresh();
    for (const { chip, value } of chips) {
      chip.setAttribute("aria-pressed", of.get() === value);
      chip.setAttribute("aria-label", `${label} ${value}`);
    }
  };
  const show = (frame) => {
    const probs = frame.probs?.[block.name]?.[variable];
    if (!probs) return;
    for (const { fill, share, value, chip } of chips) {
      fill.style.height = `${100 * probs[value]}%`;
      share.textContent = percent(probs[value]);
      chip.title = `p(${label} = ${value} | rest) = ${short(probs[value])}`;
    }
  };
  refresh();
  return { node, refresh, show };
}

function sliderControl(block, variable, label, known, session) {
  const of = variableOf(block, variable, label, known, session);
  const [low, high] = [block.low[variable], block.high[variable]];
  const bars = new StandingBars(`${label}: training range and the chains`);
  bars.set({ outline: block.histogram?.[variable] ?? null, range: [low, high] });
  const step = (high - low) / 400;
  const slider = element("input", { type: "range", min: low, max: high, step, "aria-label": label });
  const number = element("input", { type: "number", step: "any", "aria-label": `${label}, value` });
  slider.addEventListener("input", () => of.set(Number(slider.value)));
  number.addEventListener("change", () => of.set(number.value === "" ? null : Number(number.value)));
  const node = of.wrap(bars.canvas, element("div", { className: "slider-line" }, slider, number));
  const refresh = () => {
    const locked = of.isLocked();
    node.classList.toggle("locked", locked);
    of.head.refresh();
    const value = of.get() ?? of.present() ?? (low + high) / 2;
    slider.value = value;
    if (document.activeElement !== number) number.value = Number(value.toPrecision(4));
  };
  const show = (frame) => {
    const { values } = frame.arrays[`value:${block.name}`];
    const marks = [];
    for (let at = variable; at < values.length; at += block.num_variables) marks.push(values[at]);
    bars.set({ marks });
    if (!of.isLocked()) refresh();
  };
  refresh();
  return { node, refresh, show };
}
