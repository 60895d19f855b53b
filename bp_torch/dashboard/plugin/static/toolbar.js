// Above the network: which run, which example, and whether the gradients of this step are right.

import {html} from "./dom.js";
import {draw, greys} from "./maps.js";
import {number} from "./numbers.js";

/** A list to choose a run from. */
export function runList(runs, run, choose) {
  const missing = runs.includes(run) ? [] : [html("option", {selected: true, disabled: true}, run)];
  const options = [...missing, ...runs.map((name) => html("option", {value: name, selected: name === run}, name))];
  const attributes = {"data-key": "run", onchange: ({target}) => choose(target.value)};
  return html("label", {}, "Run ", html("select", attributes, ...options));
}

/** The digits to choose from: the probes, and of the mini-batch the worst and the one that was chosen there. */
export function exampleList(frame, {example, exampleId}, choose) {
  const {probes, labels, worst} = frame;
  const button = (id, place, name) => {
    const attributes = {"data-key": `example ${id}`, "aria-pressed": String(id === exampleId), "aria-label": name};
    const [low, high] = place < probes ? frame.network.range : [frame.low, frame.high];
    const picture = draw(frame.input(place), greys(low, high));
    return html("button", {...attributes, title: name, onclick: () => choose(id)}, picture);
  };
  const tested = Array.from({length: probes}, (_, p) => button(`${p}`, p, `a ${labels[p]}, of the test set`));
  const chosen = /^batch-/.test(exampleId) ? [button(exampleId, example, "the chosen one of the mini-batch")] : [];
  return html(
    "div",
    {class: "examples", role: "group", "aria-label": "Example"},
    ...tested,
    html("span", {class: "between"}, "worst of the mini-batch"),
    button("worst", worst, `the worst of the mini-batch, a ${labels[worst]}`),
    ...chosen,
  );
}

/** The hand-written gradient of this step against autograd's: the verdict, and what it is made of. */
export function badge({comparisons}, open) {
  if (!comparisons.length)
    return html("span", {class: "badge none", title: "as with --compare-every 0"}, "not compared with autograd");
  const failed = comparisons.filter(({passed}) => !passed);
  const worst = Math.max(...comparisons.map(({relative_difference: difference}) => difference ?? Infinity));
  const verdict = failed.length
    ? `✗ ${failed.length} of ${comparisons.length} gradients differ from autograd’s`
    : `✓ agrees with autograd, to ${number(worst, 2)}`;
  const rows = comparisons.map((comparison) => rowOf(comparison));
  const head = ["parameter", "", "‖hand − autograd‖ / ‖autograd‖", "largest difference", "error / PyTorch’s own"];
  return html(
    "details",
    {class: `badge ${failed.length ? "failed" : "passed"}`, open},
    html("summary", {"data-key": "badge"}, verdict),
    html(
      "div",
      {class: "popover"},
      html(
        "p",
        {},
        "The hand-written gradient of this very step and mini-batch, beside autograd’s through PyTorch’s own layers:",
      ),
      html(
        "table",
        {},
        html("thead", {}, html("tr", {}, ...head.map((text) => html("th", {scope: "col"}, text)))),
        html("tbody", {}, ...rows),
      ),
    ),
  );
}

function rowOf({name, passed, relative_difference: relative, difference, error_ratio: ratio}) {
  const figures = [relative, difference, ratio].map((figure) => html("td", {}, number(figure, 2)));
  return html("tr", {}, html("th", {scope: "row"}, name), html("td", {}, passed ? "✓" : "✗"), ...figures);
}
