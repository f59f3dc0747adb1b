// Controls of the columns of a table: a value, some levels or an interval, each with a lock.

import { StandingBars, lyingBars } from "./bars.js";
import { controlHead } from "./controls.js";
import { element, say } from "./dom.js";

let lists = 0; // of levels, for ids
const FEW = 8; // levels that are chips; more are chosen from a list

/** A control per column; each has `node`, `refresh()` after a change, `show(frame, chain)` and `answer(found)`. */
export function columnControls(view, known, session) {
  return view.columns
    .filter((column) => column.kind !== "ignored")
    .map((column) => columnControl(column, view, known, session));
}

/** What is given of a column in words; empty if nothing is. */
export function givenText(column, said) {
  if (said === undefined) return "";
  if (said === null) return "missing";
  if (Array.isArray(said)) return said.join(" or ");
  if (typeof said === "object") return `${said.low ?? "…"} to ${said.high ?? "…"}`;
  return String(said);
}

/** Bars of a column, standing for numbers and lying for a few levels. */
export function columnBars(column, description, height) {
  if (column.kind === "category") {
    const bars = lyingBars(column.levels.slice(0, column.bars).map(String), description);
    return { node: bars.node, set: (shares) => bars.update(shares) };
  }
  const bars = new StandingBars(description, { height });
  bars.set({ outline: column.histogram });
  return { node: bars.canvas, set: (shares) => bars.set({ shares }) };
}

function columnControl(column, view, known, session) {
  const { name } = column;
  const get = () => known.given[name];
  const isLocked = () => name in known.given;
  const present = () => session.frame?.rows[name][session.chain] ?? null;
  const lock = () => {
    if (isLocked()) known.set(name, undefined);
    else if (present() === null) say(`${name}: missing in the marked row; mark another one`, true);
    else known.set(name, present());
  };
  const head = controlHead(name, isLocked, lock);
  const editor = { category: levelEditor, number: numberEditor, time: numberEditor }[column.kind](column, known, get);
  const bars = column.kind === "category" && column.levels.length > FEW ? null
    : columnBars(column, `${name}: what the model expects`, 40);
  const node = element("div", { className: "control", role: "group", "aria-label": name }, head.node);
  if (bars && column.kind !== "category") node.append(bars.node);
  node.append(editor.node);
  if (view.missing_can_be_given) {
    const missing = element("button", { type: "button", className: "quiet", textContent: "is missing" });
    missing.addEventListener("click", () => known.set(name, get() === null ? undefined : null));
    node.append(missing);
  }
  const refresh = () => {
    node.classList.toggle("locked", isLocked());
    head.note.textContent = givenText(column, get()) || "free";
    head.refresh();
    editor.refresh();
  };
  const answer = (found) => {
    const shares = found.bars?.[name];
    editor.shares?.(shares);
    if (column.kind !== "category") bars.set(shares ?? null);
  };
  refresh();
  return { node, refresh, show: () => {}, answer };
}

/** Levels as chips that can be combined, or one from a list. */
function levelEditor(column, known, get) {
  const { name, levels } = column;
  if (levels.length > FEW) {
    lists += 1;
    const id = `levels-${lists}`;
    const list = element("datalist", { id }, ...levels.map((level) => element("option", { value: String(level) })));
    const input = element("input", { type: "text", list: id, placeholder: `${levels.length} levels`, "aria-label": `${name}, level` });
    input.addEventListener("change", () => {
      const level = levels.find((each) => String(each) === input.value);
      if (input.value !== "" && level === undefined) say(`${name}: no level ${input.value}`, true);
      else known.set(name, level);
    });
    const refresh = () => {
      if (document.activeElement !== input) input.value = get() === undefined || get() === null ? "" : givenText(column, get());
    };
    return { node: element("div", {}, input, list), refresh };
  }
  const chips = levels.map((level) => {
    const fill = element("span", { className: "chip-fill" });
    const share = element("span", { className: "chip-share" });
    const chip = element("button", { type: "button", className: "chip wide", "aria-label": `${name} ${level}` },
      fill, element("span", { className: "chip-text", textContent: String(level) }), share);
    chip.addEventListener("click", () => {
      const chosen = chosenLevels(get());
      const now = chosen.includes(level) ? chosen.filter((each) => each !== level) : [...chosen, level];
      known.set(name, now.length === 0 ? undefined : now.length === 1 ? now[0] : now);
    });
    return { chip, level, fill, share };
  });
  const refresh = () => chips.forEach(({ chip, level }) => chip.setAttribute("aria-pressed", chosenLevels(get()).includes(level)));
  const shares = (found) => chips.forEach(({ fill, share }, at) => {
    fill.style.height = `${100 * (found?.[at] ?? 0)}%`;
    share.textContent = found ? `${Math.round(100 * found[at])}%` : "";
  });
  return { node: element("div", { className: "chips" }, ...chips.map(({ chip }) => chip)), refresh, shares };
}

const chosenLevels = (said) => (Array.isArray(said) ? said : said === undefined || said === null ? [] : [said]);

/** A number or a time: one field for a value, or two for an interval. */
function numberEditor(column, known, get) {
  const { name } = column;
  const isTime = column.kind === "time";
  const field = (label) => element("input", { type: isTime ? "text" : "number", step: "any", placeholder: isTime ? "2024-02-29" : label, "aria-label": `${name}, ${label}` });
  const [low, high] = [field("from or value"), field("to")];
  const read = (input) => (input.value === "" ? null : isTime ? input.value : Number(input.value));
  const range = element("input", { type: "checkbox", "aria-label": `${name}, interval` });
  const apply = () => {
    const [from, to] = [read(low), read(high)];
    if (!range.checked) known.set(name, from ?? undefined);
    else known.set(name, from === null && to === null ? undefined : { low: from, high: to });
  };
  range.addEventListener("change", () => { high.hidden = !range.checked; apply(); });
  for (const input of [low, high]) input.addEventListener("change", apply);
  const refresh = () => {
    const said = get();
    const isInterval = said !== null && typeof said === "object";
    if (said !== undefined) range.checked = isInterval;
    high.hidden = !range.checked;
    const [from, to] = isInterval ? [said.low, said.high] : [said ?? null, null];
    if (document.activeElement !== low) low.value = from ?? "";
    if (document.activeElement !== high) high.value = to ?? "";
  };
  const node = element("div", { className: "number-line" }, low, high, element("label", { className: "check" }, range, " interval"));
  return { node, refresh };
}
