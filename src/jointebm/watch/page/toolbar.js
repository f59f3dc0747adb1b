// Step, play, speed, seed and start.

import { ICONS, byId, element, icon } from "./dom.js";

const SLOWEST = 1;
const FASTEST = 200; // steps per second at the end of the slider

export function toolbar(view, session) {
  const form = byId("toolbar");
  const isTable = view.kind === "table";
  let playing = false;
  const play = element("button", { type: "button", className: "primary" });
  const step = element("button", { type: "button", title: "Step ( . )" }, icon(ICONS.step), " Step");
  const speed = element("input", { type: "range", min: 0, max: 100, value: isTable ? 0 : 65, "aria-label": "Speed, steps per second" });
  const shown = element("output", { className: "facts" });
  const seed = element("input", { type: "number", min: 0, max: 2 ** 31, step: 1, value: view.seed, "aria-label": "Seed", className: "seed" });
  const reseed = element("button", { type: "button", textContent: "Reseed", title: "Start again with a new seed" });
  const again = element("button", { type: "button", textContent: "Restart", title: "Start again with the same seed" });
  const start = element("select", { "aria-label": "Start from" },
    ...view.starts.map(({ id, label }) => element("option", { value: id, textContent: `from ${label}` })));
  const row = element("input", { type: "number", min: 0, max: view.num_rows - 1, value: 0, "aria-label": "Number of the row", className: "seed" });
  const load = element("button", { type: "button", textContent: isTable ? "Load row" : "Clamp row", title: "Fill the controls with a row of the data" });
  const rate = () => SLOWEST * (FASTEST / SLOWEST) ** (Number(speed.value) / 100);

  const refresh = () => {
    play.replaceChildren(icon(playing ? ICONS.pause : ICONS.play), playing ? " Pause" : " Play");
    play.title = playing ? "Pause (space)" : "Play (space)";
    shown.textContent = `${rate() < 10 ? rate().toFixed(1) : Math.round(rate())} steps/s`;
    row.hidden = load.hidden = view.num_rows === 0 || (!isTable && start.value !== "row");
    start.hidden = view.starts.length < 2;
  };
  const send = (message) => session.send(message);
  const toggle = () => send(playing ? { do: "pause" } : { do: "play", rate: rate() });
  const restart = () => send({ do: "restart", start: start.value || "", seed: Math.max(0, Math.round(Number(seed.value) || 0)), row: Math.max(0, Number(row.value) || 0) });
  play.addEventListener("click", toggle);
  step.addEventListener("click", () => send({ do: "step" }));
  speed.addEventListener("input", () => { refresh(); if (playing) send({ do: "play", rate: rate() }); });
  reseed.addEventListener("click", () => { seed.value = Math.floor(Math.random() * 2 ** 31); restart(); });
  again.addEventListener("click", restart);
  seed.addEventListener("change", restart);
  start.addEventListener("change", () => { refresh(); restart(); });
  row.addEventListener("change", () => !isTable && restart());
  load.addEventListener("click", () => send({ do: "row", number: Math.max(0, Number(row.value) || 0) }));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea, button, [role=application], dialog");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") { toggle(); event.preventDefault(); }
    if (event.key === ".") send({ do: "step" });
  });
  const group = (...children) => element("div", { className: "tool-group" }, ...children);
  form.replaceChildren(group(play, step, speed, shown), group(start, row, load), group(element("label", { className: "facts" }, "Seed ", seed), reseed, again));
  refresh();
  return {
    state(message) {
      if ("playing" in message) playing = message.playing;
      refresh();
    },
  };
}
