// One row of a table: what is given, what the model expects of each other cell, and how well the given ones fit together.

import { columnBars, givenText } from "./columns.js";
import { element, short } from "./dom.js";

export function rowView(view, known) {
  const columns = view.columns.filter((column) => column.kind !== "ignored");
  const largest = 4; // nats at the end of a bar of dependence
  const rows = columns.map((column) => {
    const bars = columnBars(column, `${column.name}: what the model expects`, 44);
    const value = element("td", { className: "row-value" });
    const fill = element("span", { className: "depends-fill" });
    const nats = element("span", { className: "facts" });
    const depends = element("div", { className: "depends", hidden: true }, fill, nats); // until an answer says
    const ends = column.edges ? element("div", { className: "bar-ends facts" },
      element("span", { textContent: edgeText(column, column.edges[0]) }),
      element("span", { textContent: edgeText(column, column.edges.at(-1)) })) : "";
    const node = element("tr", {}, element("th", { scope: "row", textContent: column.name }), value,
      element("td", {}, bars.node, ends), element("td", {}, depends));
    return { column, node, bars, value, fill, nats, depends, ends };
  });
  const note = element("p", { className: "facts", role: "status" });
  const node = element("div", {},
    element("div", { className: "table-scroll", tabIndex: 0, role: "region", "aria-label": "One row" },
      element("table", { className: "one-row" },
        element("thead", {}, element("tr", {}, ...["Column", "Given", "Expected, given the others", "Dependence, nats"].map(
          (text) => element("th", { scope: "col", textContent: text })))),
        element("tbody", {}, ...rows.map((row) => row.node)))), note);
  const refresh = () => {
    node.classList.add("doubtful"); // until the answer to what is given now has come
    rows.forEach(({ column, node: row, value }) => {
      row.classList.toggle("locked", column.name in known.given);
      value.textContent = givenText(column, known.given[column.name]) || "–";
    });
  };
  const answer = (found) => {
    if (!found.bars) return;
    node.classList.remove("doubtful");
    rows.forEach(({ column, bars, fill, nats, depends, ends }) => {
      const shares = found.bars[column.name];
      bars.node.hidden = !shares;
      if (ends) ends.hidden = !shares;
      if (shares) bars.set(shares);
      const gain = found.dependence[column.name];
      const isKnown = gain !== undefined && gain !== null;
      depends.hidden = !isKnown;
      if (!isKnown) return;
      const share = Math.min(1, Math.abs(gain) / largest);
      fill.style.width = `${50 * share}%`;
      fill.style.left = gain < 0 ? `${50 - 50 * share}%` : "50%";
      fill.classList.toggle("against", gain < 0);
      nats.textContent = (gain > 0 ? "+" : "") + short(gain);
    });
    const density = found.log_prob === null ? "" : `log p of the given values ${short(found.log_prob)} nats. `;
    note.textContent = `${density}Expected: ${found.method}. Dependence: log p(cell | others) − log p(cell); below zero the others speak against it.`;
  };
  refresh();
  return { node, refresh, answer };
}

function edgeText(column, edge) {
  if (column.kind !== "time") return short(edge);
  const per = { D: 864e5, s: 1e3, ms: 1, us: 1e-3, ns: 1e-6 }[column.unit];
  const date = new Date(edge * per);
  return Number.isFinite(date.getTime()) ? date.toISOString().slice(0, 10) : "";
}
