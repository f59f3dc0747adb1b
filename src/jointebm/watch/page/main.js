// The page: connects to the chains, and passes frames and changes between its parts.

import { answerPanel } from "./answers.js";
import { columnControls } from "./columns.js";
import { blockControls } from "./controls.js";
import { byId, element, say, short } from "./dom.js";
import { Known } from "./known.js";
import { planeBlock, planeView } from "./plane.js";
import { rowView } from "./row_view.js";
import { connect } from "./socket.js";
import { blockColumns, chainTable, logDensityColumn, pictureTiles } from "./tiles.js";
import { toolbar } from "./toolbar.js";
import { Traces } from "./traces.js";
import { followTheme } from "./theme.js";

const session = {
  frame: null,
  chain: 0, // the marked one
  send: () => {},
  mark(chain) {
    session.chain = chain;
    parts?.show(session.frame, session.frame);
  },
};
let parts = null;
const times = []; // of the last frames, for the rate

const connection = connect({
  view: ({ view }) => { parts = build(view); say(""); },
  frame: (frame) => parts?.show(frame, session.frame),
  state: (message) => {
    if (message.restarted) say(""); // what was wrong with the chains before
    parts?.tools.state(message);
  },
  answer: (found) => parts?.answer(found),
  row: ({ number, values }) => parts?.fill(number, values),
  copied: (message) => showCopied(message),
  error: ({ error }) => say(error, true),
  closed: (reason) => say(reason || "The server has ended; run jointebm watch again and reload.", true),
});
session.send = connection.send;

function build(view) {
  const isTable = view.kind === "table";
  document.title = `${view.name} – jointebm watch`;
  byId("model-name").textContent = view.name;
  byId("model-name").title = view.source;
  byId("model-facts").textContent = facts(view);
  byId("chains-title").textContent = isTable ? "Rows" : "Chains";
  byId("marked-word").textContent = isTable ? "row" : "chain";
  const known = new Known(connection.send);
  const controls = isTable ? columnControls(view, known, session) : blockControls(view, known, session);
  byId("controls").replaceChildren(...controls.map((control) => control.node));
  byId("free-all").addEventListener("click", () => known.replace({}));
  const views = isTable ? [rowsOf(view, known)] : viewsOf(view, known);
  byId("view").replaceChildren(...views.map((each) => each.node));
  const oneRow = isTable ? rowView(view, known) : null;
  if (oneRow) tabs(oneRow.node);
  const tools = toolbar(view, session);
  const traces = new Traces(view);
  const answered = isTable ? null : answerPanel(view);
  followTheme(() => {
    traces.build();
    controls.forEach((control) => control.refresh());
    if (session.frame) views.forEach((each) => each.show(session.frame, session.frame));
  });
  known.onChange(() => {
    say("");
    answered?.outdate();
    controls.forEach((control) => control.refresh());
    oneRow?.refresh();
  });
  for (const line of ["python", "shell"]) {
    byId(`copy-${line}`).addEventListener("click", () => { wanted = line; connection.send({ do: "copy" }); });
  }
  return {
    tools,
    show(frame, before) {
      if (!frame) return;
      session.frame = frame;
      views.forEach((each) => each.show(frame, before));
      controls.forEach((control) => control.show(frame, session.chain));
      if (frame === before) return; // the marked chain or the theme has changed
      traces.show(frame, before);
      progress(frame);
    },
    answer(found) {
      answered?.update(found);
      if (isTable && found.error) say(found.error, true);
      if (isTable && !found.error) controls.forEach((control) => control.answer(found));
      oneRow?.answer(found);
    },
    fill(number, values) {
      const present = Object.entries(values).filter(([, value]) => value !== null);
      const names = new Set(view.columns?.filter((column) => column.kind !== "ignored").map((column) => column.name));
      known.replace(Object.fromEntries(present.filter(([name]) => !isTable || names.has(name))));
      say(`Row ${number} is clamped; free what the model should say.`);
    },
  };
}

function facts(view) {
  if (view.kind === "table") return `table model, ${view.columns.length} columns`;
  const normalizer = view.log_normalizer === null ? "f is not normalised" : `log Z ${short(view.log_normalizer)}`;
  return `${view.blocks.map((block) => block.name).join(", ")}; ${normalizer}`;
}

function viewsOf(view, known) {
  if (view.blocks.some((block) => block.grid)) return [pictureTiles(view, session)];
  const plane = planeBlock(view);
  const table = chainTable(blockColumns(view, known), view.num_chains, session, "Chains");
  return plane ? [planeView(plane, view, session, known), table] : [table];
}

function rowsOf(view, known) {
  const columns = view.columns.map(({ name }) => ({
    name,
    isLocked: () => name in known.given,
    text: (frame, row) => {
      const value = frame.rows[name][row];
      return value === null ? "" : typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
    },
  }));
  return chainTable([...columns, logDensityColumn(view)], view.num_chains, session, "Drawn rows");
}

/** Two tabs of a table: the drawn rows, and one row. */
function tabs(node) {
  const list = byId("tabs");
  const panels = { Rows: byId("view").parentElement, "One row": byId("row-view") };
  byId("row-view").replaceChildren(node);
  const made = Object.keys(panels).map((name) => element("button", { type: "button", role: "tab", textContent: name }));
  const choose = (chosen) => made.forEach((tab) => {
    tab.setAttribute("aria-selected", tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    panels[tab.textContent].hidden = tab !== chosen;
  });
  made.forEach((tab, at) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      if (key !== "ArrowLeft" && key !== "ArrowRight") return;
      const other = made[1 - at];
      choose(other);
      other.focus();
    });
  });
  list.replaceChildren(...made);
  list.hidden = false;
  choose(made[0]);
}

function progress(frame) {
  const now = performance.now();
  times.push(now);
  if (times.length > 30) times.shift();
  const rate = times.length > 1 ? (1000 * (times.length - 1)) / (now - times[0]) : 0;
  const at = frame.level ? `noise level ${frame.level.number} of ${frame.level.of}` : `step ${frame.step}`;
  byId("progress").textContent = rate > 0.5 ? `${at}, ${rate.toFixed(0)} frames/s` : at;
}

let wanted = "python";
async function showCopied(message) {
  const text = message[wanted];
  byId("copied-text").textContent = text;
  let hint = "Run it where this model can be found; it gives these values.";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    hint = "The browser did not allow copying; select the text. It gives these values.";
  }
  byId("copied-title").textContent = wanted === "python" ? "The view as Python" : "The view as a shell command";
  byId("copied-hint").textContent = hint;
  byId("copied").showModal();
}
