// A block of two reals as a plane: the chains as points, with the trails of their last steps.

import { element, short } from "./dom.js";

const TRAIL = 8; // frames
const FAR = 0.3; // of the range: a jump, which leaves no trail

/** The first block of two reals of a model, or none. */
export const planeBlock = (view) => view.blocks?.find((block) => block.kind === "real" && block.num_variables === 2);

export function planeView(block, view, session, known) {
  const canvas = element("canvas", { className: "plane", role: "img", "aria-label": `${block.name} of all chains in the plane` });
  const pad = [0, 1].map((axis) => 0.06 * (block.high[axis] - block.low[axis]));
  const trails = Array.from({ length: view.num_chains }, () => []);
  const show = (frame, before) => {
    const { values } = frame.arrays[`value:${block.name}`];
    const isStep = before && frame.change === before.change && frame.step >= before.step;
    if (frame !== before) {
      trails.forEach((trail, chain) => {
        if (!isStep) trail.length = 0;
        trail.push([values[2 * chain], values[2 * chain + 1]]);
        if (trail.length > TRAIL) trail.shift();
      });
    }
    draw();
  };
  const draw = () => {
    const scale = window.devicePixelRatio || 1;
    const side = Math.round(canvas.clientWidth * scale);
    if (!side) return;
    if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name);
    const x = (value) => ((value - block.low[0] + pad[0]) / (block.high[0] - block.low[0] + 2 * pad[0])) * side;
    const y = (value) => side - ((value - block.low[1] + pad[1]) / (block.high[1] - block.low[1] + 2 * pad[1])) * side;
    pen.clearRect(0, 0, side, side);
    pen.strokeStyle = colour("--line");
    pen.lineWidth = scale;
    pen.beginPath();
    for (const [from, to] of [[[0, y(0)], [side, y(0)]], [[x(0), 0], [x(0), side]]]) {
      pen.moveTo(...from);
      pen.lineTo(...to);
    }
    pen.stroke();
    pen.strokeStyle = colour("--accent");
    [0, 1].forEach((axis) => {
      const clamped = known.variable(block.name, axis);
      if (clamped === null) return;
      pen.beginPath();
      pen.moveTo(...(axis === 0 ? [x(clamped), 0] : [0, y(clamped)]));
      pen.lineTo(...(axis === 0 ? [x(clamped), side] : [side, y(clamped)]));
      pen.stroke();
    });
    trails.forEach((trail, chain) => {
      const isMarked = chain === session.chain;
      pen.strokeStyle = pen.fillStyle = colour(isMarked ? "--flash" : "--ink");
      pen.globalAlpha = isMarked ? 0.6 : 0.16;
      pen.beginPath();
      trail.forEach(([a, b], at) => {
        const [from, to] = [trail[at - 1], [x(a), y(b)]];
        const isNear = at && Math.hypot(x(from[0]) - to[0], y(from[1]) - to[1]) < FAR * side;
        pen[isNear ? "lineTo" : "moveTo"](...to);
      });
      pen.stroke();
      const [a, b] = trail.at(-1) ?? [NaN, NaN];
      pen.globalAlpha = isMarked ? 1 : 0.75;
      pen.beginPath();
      pen.arc(x(a), y(b), (isMarked ? 5 : 3.5) * scale, 0, 2 * Math.PI);
      pen.fill();
    });
    pen.globalAlpha = 1;
    pen.fillStyle = colour("--muted");
    pen.font = `${11 * scale}px system-ui, sans-serif`;
    pen.fillText(`${block.name}[0]: ${short(block.low[0])} to ${short(block.high[0])}`, 6 * scale, side - 6 * scale);
    pen.save();
    pen.translate(14 * scale, side / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(`${block.name}[1]: ${short(block.low[1])} to ${short(block.high[1])}`, 0, 0);
    pen.restore();
  };
  new ResizeObserver(draw).observe(canvas);
  return { node: canvas, show };
}
