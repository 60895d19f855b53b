// The messages where there is no network to be seen, and the help on colours and keys.

import {html} from "./dom.js";
import {KEYS} from "./keys.js";

/** Why a run cannot be walked through. */
export function refusal(run, network) {
  const more = network.unknown
    ? "."
    : ". The tab shows chains of linear layers, each with an activation, such as bp_torch.nn.mlp makes; everything else that was logged is in the other tabs.";
  return `Run ${run} cannot be walked through here: ${network.refusal}${more}`;
}

/** What to do where there is nothing. */
export function emptyState() {
  return html(
    "div",
    {class: "empty"},
    html("h1", {}, "No run here has frames yet"),
    html("p", {}, "Train a network; every run logs some, unless it is started with --frames 0:"),
    html("pre", {}, html("code", {}, "make train")),
    html("p", {}, "or, in an environment of your own,"),
    html("pre", {}, html("code", {}, "python scripts/train.py --data digits")),
    html("p", {}, "It takes half a minute. Then press TensorBoard’s reload button."),
  );
}

/** What the colours mean, and what the keys do. */
export function helpDialog() {
  const rows = KEYS.map(([keys, what]) => html("tr", {}, html("th", {scope: "row"}, keys), html("td", {}, what)));
  const close = html("button", {onclick: ({target}) => target.closest("dialog").close()}, "Close");
  const words =
    "Brightness is activation. Blue and solid is more, orange and dashed is less. Gradients are ∂C/∂w, ∂C/∂a and δ = ∂C/∂z; a nudge is minus a gradient, what lowers the cost most quickly. " +
    "Point at a neuron, a line, or a pixel of a map for its chain rule; click to keep it.";
  return html(
    "dialog",
    {"aria-label": "Help"},
    html("p", {}, words),
    html("table", {}, html("tbody", {}, ...rows)),
    close,
  );
}
