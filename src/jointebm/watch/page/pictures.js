// Blocks as pictures: high values in ink, low ones in paper; labels in colours of their own.

import { themeColour } from "./dom.js";

const LABELS = ["#f4f1ea", "#3056d3", "#e8590c", "#2f9e44", "#9c36b5", "#e0a800", "#0b7285", "#c2255c"];
const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const mix = (from, to, share) => from.map((each, at) => each + (to[at] - each) * share);

/** The colours of the present theme, for many pictures. */
export function inks() {
  const [paper, ink, flash, accent] = ["--paper", "--ink", "--flash", "--accent"].map(themeColour);
  return { paper, ink, flash, accent, labels: LABELS.map(rgb) };
}

/** The range of a block's values, for shades. */
export function shades(block) {
  if (block.kind === "real") {
    const [low, high] = [Math.min(...block.low), Math.max(...block.high)];
    return { low: low < 0 && high > 0 ? 0 : low, high }; // the same for all cells; 0 is paper where it is in the range
  }
  return { low: 0, high: Math.max(1, ...block.classes.map((count) => count - 1)) };
}

/** Colour of one cell. */
export function cellColour(block, range, colours, value) {
  if (block.kind === "category" && range.high > 1) return colours.labels[((value % 8) + 8) % 8];
  const share = Math.min(1, Math.max(0, (value - range.low) / (range.high - range.low)));
  return mix(colours.paper, colours.ink, Number.isFinite(share) ? share : 0.5);
}

/** Draws values from `start` on into a canvas of the block's size; `heat` (0 to 1 per cell) flashes. */
export function drawPicture(canvas, block, range, colours, values, start, heat = null) {
  const [height, width] = block.grid;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  for (let cell = 0; cell < height * width; cell += 1) {
    const known = cell < block.num_variables;
    let colour = known ? cellColour(block, range, colours, values[start + cell]) : colours.paper;
    if (heat && heat[start + cell] > 0.02) colour = mix(colour, colours.flash, 0.8 * heat[start + cell]);
    image.data.set([...colour, 255], 4 * cell);
  }
  pen.putImageData(image, 0, 0);
}
