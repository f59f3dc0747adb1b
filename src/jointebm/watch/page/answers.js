// The answer of `predict` beside the chains: bars of each label given what is clamped.

import { lyingBars } from "./bars.js";
import { byId, element, short } from "./dom.js";

const FEW = 10; // effective draws

/** The panel; `update` takes an answer, `outdate` fades the one that is shown until the next has come. */
export function answerPanel(view) {
  const panel = byId("answer");
  const parts = view.blocks
    .filter((block) => block.kind !== "real" && !block.grid)
    .flatMap((block) => block.classes.map((count, variable) => ({
      block: block.name,
      variable,
      title: block.num_variables > 1 ? `${block.name}[${variable}]` : block.name,
      bars: lyingBars(Array.from({ length: count }, (_, value) => String(value)), `p(${block.name} | clamped)`),
    })));
  panel.hidden = parts.length === 0;
  byId("answer-bars").replaceChildren(...parts.map(({ title, bars }) =>
    element("div", { className: "visit" }, element("h4", { textContent: title }), bars.node)));
  const outdate = () => panel.classList.add("doubtful");
  const update = (found) => {
    const isFew = !found.error && found.ess !== null && found.ess < FEW;
    panel.classList.toggle("doubtful", Boolean(found.error) || isFew);
    if (found.error) {
      byId("answer-method").textContent = found.error;
      return;
    }
    const draws = found.ess === null ? "" : `, ess ${short(found.ess)}${isFew ? ", too few to trust" : ""}`;
    byId("answer-method").textContent = `p(label | clamped) by ${found.method}${draws}`;
    parts.forEach(({ block, variable, bars }) => bars.update(found.probs[block][variable]));
  };
  return { update, outdate };
}
