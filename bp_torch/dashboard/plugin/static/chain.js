// The chain rule with a frame's numbers: equations as text, each {left, symbols, numbers, result}.

import {factor, number, signed} from "./numbers.js";
import {shape} from "./maps.js";

const SYMBOLS = {
  sigmoid: "σ",
  tanh: "tanh",
  relu: "ReLU",
  leakyrelu: "LReLU",
  elu: "ELU",
  softplus: "softplus",
  silu: "SiLU",
  gelu: "GELU",
  gelutanh: "GELU",
};

/** The name of a layer's module in the model, such as "hidden1"; "layer 2" if it is a number. */
export function layerName(network, l) {
  const parameter = network.names[l].find((name) => typeof name === "string");
  if (parameter === undefined) return l === network.names.length - 1 ? "output" : `hidden${l + 1}`; // all frozen
  const name = parameter.slice(0, Math.max(0, parameter.lastIndexOf(".")));
  return /^\d*$/.test(name) ? `layer ${name || l}` : name;
}

/** Such as "output 7", "neuron 3 of hidden1" or, if l is −1, "the pixel in row 7, column 12". */
export function neuronName(network, l, j) {
  if (l === network.functions.length - 1) return `output ${j}`;
  if (l >= 0) return `neuron ${j} of ${layerName(network, l)}`;
  const [width] = shape(network.sizes[0]);
  return `the pixel in row ${Math.floor(j / width)}, column ${j % width}`;
}

/** Such as "output.weight[7, 3]". */
export function weightName(network, l, j, k) {
  return `${network.names[l][0] ?? `frozen ${layerName(network, l)}.weight`}[${j}, ${k}]`;
}

/** The gradient and the nudge of a weight by one example. */
export function weightChain(frame, l, j, k, example) {
  const before = frame.before(l, example)[k];
  const {slope, upstream, activationGradient, formula} = at(frame, l, j, example);
  const gradient = before * slope * upstream;
  return [
    activationGradient,
    {
      left: "∂C/∂w",
      symbols: `aₖ · ${formula.slope} · ${activationGradient.short}`,
      numbers: `${number(before)} · ${factor(slope)} · ${factor(upstream)}`,
      result: number(gradient),
    },
    {left: "nudge of w: −∂C/∂w", result: signed(-gradient)},
  ];
}

/** The activation, gradients and nudges of a neuron in one example. */
export function neuronChain(frame, l, j, example) {
  const {slope, upstream, activationGradient, formula} = at(frame, l, j, example);
  const activation = frame.row(l, "activations", example)[j];
  return [
    weightedSum(frame, l, j, example),
    {left: "aⱼ", symbols: formula.value, result: number(activation)},
    activationGradient,
    {
      left: "δⱼ = ∂C/∂zⱼ = ∂C/∂b",
      symbols: `${formula.slope} · ${activationGradient.short}`,
      numbers: `${factor(slope)} · ${factor(upstream)}`,
      result: number(slope * upstream),
    },
    {left: "nudge of aⱼ: −∂C/∂aⱼ", result: signed(-upstream)},
    {left: "nudge of zⱼ and b: −δⱼ", result: signed(-slope * upstream)},
  ].filter(Boolean);
}

/** The mean gradient of a weight over the mini-batch, and the weight after the step. */
export function stepChain(frame, l, j, k) {
  const {weight, weightGradient, ins} = frame.layers[l];
  if (!weightGradient) return [{left: "w ← w", result: "it is frozen"}];
  const [before, gradient] = [weight[j * ins + k], weightGradient[j * ins + k]];
  const change = -frame.learning_rate * gradient;
  return [
    {left: `mean ∂C/∂w of ${frame.examples} examples`, result: number(gradient)},
    {
      left: "w ← w − η · mean",
      numbers: `${number(before, 4)} − ${number(frame.learning_rate)} · ${factor(gradient)}`,
      result: number(before + change, 4),
    },
  ];
}

/** The factors at a neuron: its slope and its upstream gradient ∂C/∂a, as numbers and as symbols. */
function at(frame, l, j, example) {
  const {network} = frame;
  const upstream = -frame.row(l, "nudges", example)[j];
  const symbol = SYMBOLS[network.functions[l]] ?? "f";
  const identity = network.functions[l] === "identity";
  const last = l === network.functions.length - 1;
  return {
    slope: frame.row(l, "slopes", example)[j],
    upstream,
    formula: {value: identity ? "zⱼ" : `${symbol}(zⱼ)`, slope: identity ? "1" : `${symbol}′(zⱼ)`},
    activationGradient: last ? costGradient(frame, j, example, upstream) : hiddenGradient(network, l, upstream),
  };
}

/** ∂C/∂a of an output. */
function costGradient(frame, j, example, upstream) {
  const target = frame.target(example)[j];
  const output = frame.row(frame.layers.length - 1, "activations", example)[j];
  const equation = {left: "∂C/∂aⱼ", short: "∂C/∂aⱼ", result: number(upstream)};
  switch (frame.network.cost) {
    case "squared_error":
      return {...equation, short: "2(aⱼ − tⱼ)", symbols: "2(aⱼ − tⱼ)", numbers: `2 · (${number(output)} − ${target})`};
    case "cross_entropy":
      return {
        ...equation,
        short: "(softmax(a)ⱼ − tⱼ)",
        symbols: "softmax(a)ⱼ − tⱼ",
        numbers: `${number(upstream + target)} − ${target}`,
      };
    default:
      return equation;
  }
}

/** ∂C/∂a of a hidden neuron: a sum over the next layer. */
function hiddenGradient(network, l, upstream) {
  const symbols = `Σ w · ∂C/∂z over ${layerName(network, l + 1)}`;
  return {left: "∂C/∂aⱼ", short: "∂C/∂aⱼ", symbols, result: number(upstream)};
}

/** z, if the file has all of its terms. */
function weightedSum(frame, l, j, example) {
  const {bias, ins} = frame.layers[l];
  if (ins !== frame.network.sizes[l]) return null;
  const before = frame.before(l, example);
  let sum = bias?.[j] ?? 0;
  frame.weights(l, j).forEach((w, k) => (sum += w * before[k]));
  return {left: "zⱼ", symbols: bias ? "Σ w · aₖ + b" : "Σ w · aₖ", result: number(sum)};
}
