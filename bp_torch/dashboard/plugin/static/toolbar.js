// The bar above the network: the run, the example, and whether the gradients of this step agree with autograd's.

import {html} from "./dom.js";
import {draw, greys} from "./maps.js";
import {number} from "./numbers.js";

/** The list of runs. */
export function runList(runs, run, choose) {
  const missing = runs.includes(run) ? [] : [html("option", {selected: true, disabled: true}, run)];
  const options = [...missing, ...runs.map((name) => html("option", {value: name, selected: name === run}, name))];
  const attributes = {"data-key": "run", onchange: ({target}) => choose(target.value)};
  return html("label", {}, "Run ", html("select", attributes, ...options));
}

/** The examples: the probes, the one of highest cost in the mini-batch, and the one chosen in the mini-batch. */
export function exampleList(frame, {example, exampleId}, choose) {
  const {probes, labels, worst} = frame;
  const button = (id, place, name) => {
    const attributes = {"data-key": `example ${id}`, "aria-pressed": String(id === exampleId), "aria-label": name};
    const [low, high] = place < probes ? frame.network.range : [frame.low, frame.high];
    const picture = draw(frame.input(place), greys(low, high));
    return html("button", {...attributes, title: name, onclick: () => choose(id)}, picture);
  };
  const probeButtons = Array.from({length: probes}, (_, p) => button(`${p}`, p, `test digit, label ${labels[p]}`));
  const chosen = /^batch-/.test(exampleId) ? [button(exampleId, example, "the chosen example of the mini-batch")] : [];
  return html(
    "div",
    {class: "examples", role: "group", "aria-label": "Example"},
    ...probeButtons,
    html("span", {class: "between"}, "highest cost in the mini-batch"),
    button("worst", worst, `the example of highest cost in the mini-batch, label ${labels[worst]}`),
    ...chosen,
  );
}

/** The comparison of this step's gradients with autograd's: the result, and a table with a row for each parameter. */
export function badge({comparisons}, open) {
  if (!comparisons.length)
    return html("span", {class: "badge none", title: "trained with --compare-every 0"}, "not compared with autograd");
  const failed = comparisons.filter(({passed}) => !passed);
  const worst = Math.max(...comparisons.map(({relative_difference: difference}) => difference ?? Infinity));
  const result = failed.length
    ? `✗ ${failed.length} of ${comparisons.length} gradients differ from autograd’s`
    : `✓ agrees with autograd, to ${number(worst, 2)}`;
  const rows = comparisons.map((comparison) => rowOf(comparison));
  const head = ["parameter", "", "‖hand − autograd‖ / ‖autograd‖", "largest difference", "error / PyTorch’s own"];
  return html(
    "details",
    {class: `badge ${failed.length ? "failed" : "passed"}`, open},
    html("summary", {"data-key": "badge"}, result),
    html(
      "div",
      {class: "popover"},
      html("p", {}, "The hand-written gradients of this step, compared with autograd’s through PyTorch’s own layers:"),
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
