// The panel next to the network: the chain rule of what is under the pointer, and the tables of avenues and of the step.

import {layerName, neuronChain, neuronName, stepChain, weightChain, weightName} from "./chain.js";
import {css, diverging} from "./colours.js";
import {html} from "./dom.js";
import {largest} from "./maps.js";
import {count, number, signed} from "./numbers.js";

const MOST_ROWS = 24;

/** The chain rule with its numbers, for a weight if the target has a `k`, otherwise for a neuron. */
export function chainBox(frame, phase, {l, j, k}, example, pinned, pin) {
  const {network} = frame;
  const weight = k !== undefined;
  const averaged = weight && (phase.id === "average" || phase.id === "step");
  const equations = weight ? weightChain(frame, l, j, k, example) : neuronChain(frame, l, j, example);
  const name = neuronName(network, l, j);
  const title = weight ? `The weight from ${neuronName(network, l - 1, k)} to ${name}` : capital(name);
  const {weight: weights, ins} = frame.layers[l];
  const value = weight ? `${weightName(network, l, j, k)} = ${number(weights[j * ins + k])}` : biasName(frame, l, j);
  return [
    html("h2", {}, title),
    html("p", {class: "name"}, html("code", {}, value), weight ? pinButton(pinned, pin) : ""),
    html("p", {class: "note"}, `For the chosen example, label ${frame.labels[example]}:`),
    html("dl", {class: "chain"}, ...[...equations, ...(averaged ? stepChain(frame, l, j, k) : [])].flatMap(equation)),
  ];
}

function biasName({network, layers}, l, j) {
  const bias = layers[l].bias;
  return bias
    ? `${network.names[l][1] ?? `frozen ${layerName(network, l)}.bias`}[${j}] = ${number(bias[j])}`
    : "no bias";
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function pinButton(pinned, pin) {
  const label = pinned ? "Unpin" : "Pin and follow";
  return html("button", {"data-key": "pin", class: "pin", "aria-pressed": String(pinned), onclick: pin}, label);
}

function equation({left, symbols, numbers, result}) {
  const right = [symbols, numbers].filter(Boolean).flatMap((text) => [html("span", {}, `= ${text}`), " "]);
  return [html("dt", {}, left), html("dd", {}, ...right, html("b", {}, `= ${result}`))];
}

/** The three avenues of a neuron: its bias, its weights, and the previous activations. */
export function avenuesTable(frame, l, j, example, choose) {
  const ofSum = frame.sumNudges(l, example)[j];
  const [before, weights, {bias}] = [frame.before(l, example), frame.weights(l, j), frame.layers[l]];
  const [byWeight, byInput] = [frame.weightNudges(l, j, example), frame.contributions(l, j, example)];
  const places = strongest(byWeight, byInput);
  const [most, mostOfInputs] = [Math.max(largest(byWeight), Math.abs(ofSum)), largest(byInput)];
  const ofBias = bias ? [row("bias", cell(""), cell(number(bias[j])), nudgeCell(ofSum, most), cell(""))] : [];
  const ofWeights = places.map((k) => {
    const nudges = [nudgeCell(byWeight[k], most), nudgeCell(byInput[k], mostOfInputs)];
    return row(fromButton(l, j, k, choose), cell(number(before[k])), cell(number(weights[k])), ...nudges);
  });
  const titles = ["from", "activation\na", "weight\nw", "nudge of w\n−δ · a", "nudge of a\n−δ · w"];
  return [
    html("h3", {}, `Three avenues of ${neuronName(frame.network, l, j)}`),
    table(titles, [...ofBias, ...ofWeights]),
    html("p", {class: "note"}, `nudge of z and the bias: −δ = −∂C/∂z = ${signed(ofSum)}${rowCount(places, frame, l)}`),
  ];
}

/** The bias and weights of a neuron before and after the step. */
export function movesTable(frame, l, j, choose) {
  const {bias, biasGradient} = frame.layers[l];
  const name = neuronName(frame.network, l, j);
  if (!frame.learns(l))
    return [html("p", {}, `The weights and bias of ${name} are frozen. The step does not change them.`)];
  const [weights, nudges, biasNudge] = [frame.weights(l, j), frame.averageNudges(l, j), -(biasGradient?.[j] ?? 0)];
  const places = strongest(nudges, nudges);
  const most = Math.max(largest(nudges), Math.abs(biasNudge));
  const rowOf = (from, before, nudge) => {
    const move = frame.learning_rate * nudge;
    return row(from, cell(number(before)), nudgeCell(nudge, most), cell(signed(move)), cell(number(before + move)));
  };
  const ofBias = bias ? [rowOf("bias", bias[j], biasNudge)] : [];
  const ofWeights = places.map((k) => rowOf(fromButton(l, j, k, choose), weights[k], nudges[k]));
  return [
    html("h3", {}, `The step of ${name}`),
    table(
      ["from", "before", "average nudge", `times ${number(frame.learning_rate)}`, "after"],
      [...ofBias, ...ofWeights],
    ),
    html("p", {class: "note"}, `The learning rate is ${number(frame.learning_rate)}${rowCount(places, frame, l)}`),
  ];
}

function table(titles, rows) {
  const head = html("tr", {}, ...titles.map((text) => html("th", {scope: "col"}, text)));
  return html("table", {class: "avenues"}, html("thead", {}, head), html("tbody", {}, ...rows));
}

const row = (name, ...cells) => html("tr", {}, html("th", {scope: "row"}, name), ...cells);

/** Which weights a table has, unless it has all. */
function rowCount(places, {network, layers}, l) {
  const all = network.sizes[l];
  if (places.length === all) return "";
  return `; ${places.length} of ${count(all)} weights, ${layers[l].ins < all ? "the first" : "those with the largest nudges"}`;
}

const fromButton = (l, j, k, choose) =>
  html("button", {"data-key": `weight ${l}.${j}.${k}`, onclick: () => choose({l, j, k})}, l ? `${k}` : `pixel ${k}`);

/** All indices in order, or those of the MOST_ROWS largest nudges. */
function strongest(nudges, others) {
  const places = [...nudges.keys()];
  if (places.length <= MOST_ROWS) return places;
  const size = (k) => Math.abs(nudges[k]) || Math.abs(others[k]) * 1e-6;
  return places.sort((a, b) => size(b) - size(a)).slice(0, MOST_ROWS);
}

const cell = (text) => html("td", {}, text);

/** A table cell with a nudge, coloured by its value. */
export function nudgeCell(value, scale, text = signed(value)) {
  return html("td", {style: `background: ${css(diverging((0.75 * value) / (scale || 1)))}`}, text);
}
