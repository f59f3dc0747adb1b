// A block as a picture to paint: ink and paper clamp cells, Keep clamps what a chain shows, Free lets cells move.

import { controlHead } from "./controls.js";
import { element, say } from "./dom.js";
import { cellColour, inks, shades } from "./pictures.js";

const SIDE = 264; // CSS pixels of the longer side
const MAX_FILE = 20e6; // bytes of an uploaded picture

let helps = 0; // texts of help, for ids

export function paintControl(block, known, session) {
  helps += 1;
  const helpId = `paint-help-${helps}`;
  const [height, width] = block.grid;
  const count = block.num_variables;
  const range = shades(block);
  const scale = Math.max(1, Math.floor(SIDE / Math.max(height, width))) * 2;
  const canvas = element("canvas", {
    width: width * scale, height: height * scale, className: "paint", tabIndex: 0, role: "application",
    "aria-roledescription": "picture to paint", "aria-label": `${block.name}, ${height} by ${width} cells`,
    "aria-describedby": helpId,
  });
  const tool = { name: "ink", size: block.kind === "real" && width > 15 ? 2 : 1, label: Math.min(1, range.high) };
  const cursor = { row: Math.floor(height / 2), column: Math.floor(width / 2), shown: false };
  const given = () => known.given[block.name] ?? new Array(count).fill(null);
  const put = (values) => known.set(block.name, values.every((each) => each === null) ? undefined : values);
  const chainValue = (cell) => session.frame?.arrays[`value:${block.name}`].values[session.chain * count + cell] ?? null;
  const valueOf = (cell) => ({
    ink: block.kind === "category" && range.high > 1 ? tool.label : inkLevel(block, range),
    paper: paperLevel(range), keep: chainValue(cell), free: null,
  })[tool.name];

  const paintAt = (row, column) => {
    const values = given().slice();
    const reach = tool.size - 1;
    for (let r = row - reach; r <= row + reach; r += 1) {
      for (let c = column - reach; c <= column + reach; c += 1) {
        const cell = r * width + c;
        const inside = r >= 0 && r < height && c >= 0 && c < width && cell < count;
        if (inside && Math.hypot(r - row, c - column) <= reach + 0.25) values[cell] = valueOf(cell);
      }
    }
    put(values);
  };
  const fill = (isChosen) => put(given().map((old, cell) => (isChosen(cell) ? chainValue(cell) : null)));
  const head = controlHead(block.name, () => block.name in known.given, () =>
    block.name in known.given ? known.set(block.name, undefined) : fill(() => true));

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width].map(Math.floor);
  };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    paintAt(...last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const [row, column] = at(event);
    const steps = Math.max(1, Math.abs(row - last[0]), Math.abs(column - last[1]));
    for (let step = 1; step <= steps; step += 1) {
      paintAt(...[row, column].map((end, axis) => Math.round(last[axis] + ((end - last[axis]) * step) / steps)));
    }
    last = [row, column];
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (last = null));
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      cursor.row = Math.min(height - 1, Math.max(0, cursor.row + moves[event.key][0]));
      cursor.column = Math.min(width - 1, Math.max(0, cursor.column + moves[event.key][1]));
      const value = given()[cursor.row * width + cursor.column];
      place.textContent = `row ${cursor.row + 1}, column ${cursor.column + 1}, ${value === null ? "free" : "clamped"}`;
    } else if (event.key === " " || event.key === "Enter") {
      paintAt(cursor.row, cursor.column);
    } else return;
    event.preventDefault();
    event.stopPropagation();
    draw();
  });
  canvas.addEventListener("focus", () => { cursor.shown = canvas.matches(":focus-visible"); draw(); });
  canvas.addEventListener("blur", () => { cursor.shown = false; draw(); });

  const place = element("span", { className: "hidden", "aria-live": "polite" });
  const tools = toolButtons(block, tool, range);
  const file = element("input", { type: "file", accept: "image/*", className: "hidden", "aria-label": `Upload ${block.name}` });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    file.value = "";
    if (chosen) await upload(chosen, block, range, put);
  });
  const button = (text, act) => {
    const made = element("button", { type: "button", className: "quiet", textContent: text });
    made.addEventListener("click", act);
    return made;
  };
  const half = (cell) => Math.floor(cell / width) < height / 2;
  const actions = element("div", { className: "paint-actions" },
    button("Keep top", () => fill(half)),
    button("Keep bottom", () => fill((cell) => !half(cell))),
    button("Upload", () => file.click()), file);
  const help = element("p", { id: helpId, className: "hidden",
    textContent: "Arrow keys move the cursor, space paints with the chosen tool." });
  const node = element("div", { className: "control", role: "group", "aria-label": block.name },
    head.node, tools, canvas, actions, help, place);

  const draw = () => {
    const pen = canvas.getContext("2d");
    const colours = inks();
    const values = given();
    const css = (colour, alpha = 1) => `rgba(${colour.map(Math.round).join(",")},${alpha})`;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (let cell = 0; cell < count; cell += 1) {
      const [row, column] = [Math.floor(cell / width), cell % width];
      const isFree = values[cell] === null;
      const value = isFree ? chainValue(cell) : values[cell];
      pen.fillStyle = value === null ? css(colours.paper) : css(cellColour(block, range, colours, value), isFree ? 0.3 : 1);
      pen.fillRect(column * scale, row * scale, scale, scale);
      if (!isFree) {
        pen.fillStyle = css(colours.accent, 0.22);
        pen.fillRect(column * scale, row * scale, scale, scale);
      }
    }
    if (cursor.shown) {
      pen.strokeStyle = css(colours.flash);
      pen.lineWidth = 3;
      pen.strokeRect(cursor.column * scale, cursor.row * scale, scale, scale);
    }
  };
  const refresh = () => {
    const locked = given().filter((each) => each !== null).length;
    node.classList.toggle("locked", locked > 0);
    head.note.textContent = locked ? `${locked} of ${count} clamped` : "free";
    head.refresh();
    draw();
  };
  refresh();
  return { node, refresh, show: draw };
}

const inkLevel = (block, range) => (block.kind === "real" ? range.low + 0.97 * (range.high - range.low) : range.high);
const paperLevel = (range) => range.low;

function toolButtons(block, tool, range) {
  const group = element("div", { className: "tools", role: "radiogroup", "aria-label": `Tools of ${block.name}` });
  const texts = { ink: "Ink", paper: "Paper", keep: "Keep", free: "Free" };
  const titles = {
    ink: "Clamp cells to a high value", paper: "Clamp cells to a low value",
    keep: "Clamp cells to what the marked chain shows", free: "Let cells move",
  };
  const buttons = Object.keys(texts).map((name) => {
    const made = element("button", { type: "button", role: "radio", textContent: texts[name], title: titles[name] });
    made.addEventListener("click", () => choose(name));
    return [name, made];
  });
  const choose = (name) => {
    tool.name = name;
    buttons.forEach(([each, made]) => made.setAttribute("aria-checked", each === name));
  };
  group.append(...buttons.map(([, made]) => made));
  choose("ink");
  const size = element("input", { type: "range", min: 1, max: 5, step: 1, value: tool.size, "aria-label": "Brush size" });
  size.addEventListener("input", () => (tool.size = Number(size.value)));
  const parts = [group, size];
  if (block.kind === "category" && range.high > 1) {
    const label = element("input", { type: "number", min: 0, max: range.high, value: tool.label, "aria-label": "Label of ink" });
    label.addEventListener("change", () => (tool.label = Math.min(range.high, Math.max(0, Math.round(Number(label.value))))));
    parts.push(label);
  }
  return element("div", { className: "tool-line" }, ...parts);
}

/** Clamps a picture of the user's: grey levels, its strokes in ink if its border is bright. */
async function upload(file, block, range, put) {
  const [height, width] = block.grid;
  if (file.size > MAX_FILE) {
    say(`${file.name}: larger than ${MAX_FILE / 1e6} MB; choose a smaller picture`, true);
    return;
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    say(`${file.name}: not a picture that this browser can read`, true);
    return;
  }
  const canvas = element("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  const ratio = Math.min(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * ratio, bitmap.height * ratio];
  pen.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const { data } = pen.getImageData(0, 0, width, height);
  const grey = Array.from({ length: width * height }, (_, at) => (data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 765);
  const border = grey.filter((_, at) => at < width || at >= width * (height - 1) || at % width === 0 || at % width === width - 1);
  const isBright = border.reduce((sum, each) => sum + each, 0) / border.length > 0.5;
  const [low, high] = [paperLevel(range), inkLevel(block, range)];
  const values = grey.slice(0, block.num_variables).map((each) => {
    const share = isBright ? 1 - each : each;
    const value = low + share * (high - low);
    return block.kind === "real" ? value : Math.round(share * range.high);
  });
  put(values);
  say(`${file.name}: clamped as ${block.name}; brush with Free what may move`);
}
