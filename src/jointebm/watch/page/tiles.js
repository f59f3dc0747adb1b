// The chains as tiles: a picture per chain with its labels, or a row of values; what has moved flashes.

import { element, short } from "./dom.js";
import { drawPicture, inks, shades } from "./pictures.js";

const MOVED = 0.15; // of the range of a cell, from one frame to the next
const FADE = 0.82; // of a flash, per frame
const WITHOUT_DRAWING = 24; // values of a tile without a picture

/** Tiles of models with a picture; `show` draws a frame. */
export function pictureTiles(view, session) {
  const pictures = view.blocks.filter((block) => block.grid);
  const others = view.blocks.filter((block) => !block.grid && block.num_variables <= WITHOUT_DRAWING);
  const tiles = Array.from({ length: view.num_chains }, (_, chain) => {
    const canvases = pictures.map((block) => element("canvas", {
      width: block.grid[1], height: block.grid[0], className: "tile-picture", role: "img", "aria-label": block.name,
    }));
    const labels = others.map((block) => element("span", { className: "tile-label", title: block.name }));
    const node = element("button", { type: "button", className: "tile", "aria-label": `Chain ${chain + 1}`, "aria-pressed": false },
      ...canvases, element("span", { className: "tile-labels" }, ...labels));
    node.addEventListener("click", () => session.mark(chain));
    return { node, canvases, labels };
  });
  const heats = pictures.map((block) => new Float32Array(view.num_chains * block.num_variables));
  const ranges = pictures.map(shades);
  const node = element("div", { className: "tiles", role: "group", "aria-label": "Chains" }, ...tiles.map((tile) => tile.node));

  const show = (frame, before) => {
    const colours = inks();
    const isStep = before && frame.change === before.change && frame.step >= before.step;
    pictures.forEach((block, number) => {
      const { values } = frame.arrays[`value:${block.name}`];
      heat(heats[number], values, isStep && before.arrays[`value:${block.name}`].values, ranges[number]);
      tiles.forEach((tile, chain) =>
        drawPicture(tile.canvases[number], block, ranges[number], colours, values, chain * block.num_variables, heats[number]));
    });
    tiles.forEach((tile, chain) => {
      const words = others.map((block, number) => {
        const text = valuesText(block, frame.arrays[`value:${block.name}`].values, chain);
        const label = tile.labels[number];
        if (label.textContent !== text) {
          label.textContent = text;
          if (isStep) flash(label);
        }
        return `${block.name} ${text}`;
      });
      tile.node.setAttribute("aria-label", `Chain ${chain + 1}${words.length ? `: ${words.join(", ")}` : ""}`);
      tile.node.setAttribute("aria-pressed", chain === session.chain);
    });
  };
  return { node, show };
}

function heat(heats, values, before, range) {
  const scale = range.high - range.low;
  for (let at = 0; at < heats.length; at += 1) {
    const moved = before ? Math.abs(values[at] - before[at]) / scale : 0;
    heats[at] = moved > MOVED ? 1 : heats[at] * FADE;
  }
}

function valuesText(block, values, chain) {
  const own = Array.from(values.subarray(chain * block.num_variables, (chain + 1) * block.num_variables));
  return own.map((value) => (block.kind === "real" ? short(value) : value < 0 ? "·" : value)).join(" ");
}

/** Flashes an element whose value has changed. */
export function flash(node) {
  node.classList.remove("moved");
  void node.offsetWidth; // starts the animation again
  node.classList.add("moved");
}

/** The chains as rows of a table: columns as {name, text(frame, chain), isLocked()}; one that isPinned stays in view. */
export function chainTable(columns, count, session, caption) {
  const pin = (column) => ({ className: column.isPinned ? "pinned" : "" });
  const head = columns.map((column) => element("th", { scope: "col", textContent: column.name, ...pin(column) }));
  const rows = Array.from({ length: count }, (_, chain) => {
    const cells = columns.map((column) => element("td", pin(column)));
    const mark = element("button", { type: "button", className: "row-mark", textContent: chain + 1, "aria-label": `Chain ${chain + 1}` });
    mark.addEventListener("click", () => session.mark(chain));
    return { node: element("tr", {}, element("th", { scope: "row" }, mark), ...cells), cells, mark };
  });
  const node = element("div", { className: "table-scroll", tabIndex: 0, role: "region", "aria-label": caption },
    element("table", {},
      element("thead", {}, element("tr", {}, element("th", { scope: "col", textContent: "#" }), ...head)),
      element("tbody", {}, ...rows.map((row) => row.node))));
  const show = (frame, before) => {
    const isStep = before && frame.change === before.change && frame.step > before.step;
    columns.forEach((column, at) => {
      const locked = column.isLocked?.() ?? false;
      head[at].classList.toggle("locked", locked);
      rows.forEach((row, chain) => {
        const text = column.text(frame, chain);
        const cell = row.cells[at];
        if (cell.textContent !== text) {
          cell.textContent = text;
          if (isStep && column.flashes !== false) flash(cell);
        }
        cell.classList.toggle("locked", locked);
      });
    });
    rows.forEach((row, chain) => {
      row.node.classList.toggle("marked", chain === session.chain);
      row.mark.setAttribute("aria-pressed", chain === session.chain);
    });
  };
  return { node, show };
}

/** Columns of a block model, for `chainTable`. */
export function blockColumns(view, known) {
  const columns = view.blocks
    .filter((block) => !block.grid)
    .flatMap((block) => Array.from({ length: block.num_variables }, (_, variable) => ({
      name: block.num_variables > 1 ? `${block.name}[${variable}]` : block.name,
      flashes: block.kind !== "real",
      isLocked: () => known.variable(block.name, variable) !== null,
      text: (frame, chain) => {
        const value = frame.arrays[`value:${block.name}`].values[chain * block.num_variables + variable];
        return block.kind === "real" ? value.toFixed(2) : value < 0 ? "·" : String(value);
      },
    })));
  return [...columns, logDensityColumn(view)];
}

/** The last column: log p of each row, which stays in view while wide tables scroll sideways. */
export const logDensityColumn = (view) => ({
  name: logDensityName(view),
  flashes: false,
  isPinned: true,
  text: (frame, chain) => (frame.arrays.f ? (frame.arrays.f.values[chain] - (view.log_normalizer ?? 0)).toFixed(2) : "·"),
});

export const logDensityName = (view) => (view.kind === "blocks" && view.log_normalizer === null ? "log p + const" : "log p");
