// The messages shown in place of a network, and the help dialog.

import {html} from "./dom.js";
import {KEYS} from "./keys.js";

/** Why a run cannot be shown. */
export function refusal(run, network) {
  const more = network.unknown
    ? "."
    : ". This tab shows chains of linear layers with activations, such as those of bp_torch.nn.mlp. The other tabs show the rest of the run.";
  return `Run ${run} cannot be shown here: ${network.refusal}${more}`;
}

/** How to make a first run. */
export function emptyState() {
  return html(
    "div",
    {class: "empty"},
    html("h1", {}, "No run here has frames yet"),
    html("p", {}, "Train a network. Every run of dense layers logs frames, unless it is started with --frames 0:"),
    html("pre", {}, html("code", {}, "make train")),
    html("p", {}, "or, outside a clone:"),
    html("pre", {}, html("code", {}, "bp-torch train --data digits")),
    html("p", {}, "This takes less than a minute. Then press TensorBoard’s reload button."),
  );
}

/** The meaning of the colours and the keys. */
export function helpDialog() {
  const rows = KEYS.map(([keys, what]) => html("tr", {}, html("th", {scope: "row"}, keys), html("td", {}, what)));
  const close = html("button", {onclick: ({target}) => target.closest("dialog").close()}, "Close");
  const words =
    "The brightness of a neuron is its activation. Blue and solid means more, orange and dashed means less. ∂C/∂w, ∂C/∂a and δ = ∂C/∂z are gradients. A nudge is minus a gradient: the change that lowers the cost. " +
    "Point at a neuron, a line, or a pixel of a map to see its chain rule. Click to keep it.";
  return html(
    "dialog",
    {"aria-label": "Help"},
    html("p", {}, words),
    html("table", {}, html("tbody", {}, ...rows)),
    close,
  );
}
