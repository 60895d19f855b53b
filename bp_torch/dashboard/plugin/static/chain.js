// The chain rule with a frame's numbers in it: equations as text, each {left, symbols, numbers, result}.

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

/** Such as "output 7", "neuron 3 of hidden layer 1" or, of layer −1, "the pixel in row 7, column 12". */
export function neuronName(network, l, j) {
  if (l === network.functions.length - 1) return `output ${j}`;
  if (l >= 0) return `neuron ${j} of hidden layer ${l + 1}`;
  const [width] = shape(network.sizes[0]);
  return `the pixel in row ${Math.floor(j / width)}, column ${j % width}`;
}

/** Such as "4.weight[7, 3]", as PyTorch knows it. */
export function weightName(network, l, j, k) {
  return `${network.names[l][0] ?? "frozen weight"}[${j}, ${k}]`;
}

/** How a weight's gradient and its nudge come about, of one example. */
export function weightChain(frame, l, j, k, example) {
  const before = frame.before(l, example)[k];
  const {slope, upstream, fromAbove, given} = at(frame, l, j, example);
  const gradient = before * slope * upstream;
  return [
    fromAbove,
    {
      left: "∂C/∂w",
      symbols: `aₖ · ${given.slope} · ${fromAbove.short}`,
      numbers: `${number(before)} · ${factor(slope)} · ${factor(upstream)}`,
      result: number(gradient),
    },
    {left: "nudge of w: −∂C/∂w", result: signed(-gradient)},
  ];
}

/** A neuron's activation, its gradients and its nudges, of one example. */
export function neuronChain(frame, l, j, example) {
  const {slope, upstream, fromAbove, given} = at(frame, l, j, example);
  const activation = frame.row(l, "activations", example)[j];
  return [
    weightedSum(frame, l, j, example),
    {left: "aⱼ", symbols: given.value, result: number(activation)},
    fromAbove,
    {
      left: "δⱼ = ∂C/∂zⱼ = ∂C/∂b",
      symbols: `${given.slope} · ${fromAbove.short}`,
      numbers: `${factor(slope)} · ${factor(upstream)}`,
      result: number(slope * upstream),
    },
    {left: "nudge of aⱼ: −∂C/∂aⱼ", result: signed(-upstream)},
    {left: "nudge of zⱼ and b: −δⱼ", result: signed(-slope * upstream)},
  ].filter(Boolean);
}

/** What the mini-batch's mean of a weight's gradient is, and what the step makes of it. */
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

/** The factors at a neuron: its slope, its upstream gradient ∂C/∂a, and how both are written. */
function at(frame, l, j, example) {
  const {network} = frame;
  const upstream = -frame.row(l, "nudges", example)[j];
  const symbol = SYMBOLS[network.functions[l]] ?? "f";
  const identity = network.functions[l] === "identity";
  const last = l === network.functions.length - 1;
  return {
    slope: frame.row(l, "slopes", example)[j],
    upstream,
    given: {value: identity ? "zⱼ" : `${symbol}(zⱼ)`, slope: identity ? "1" : `${symbol}′(zⱼ)`},
    fromAbove: last ? ofTheCost(frame, j, example, upstream) : ofTheLayerAfter(network, l, upstream),
  };
}

/** ∂C/∂a of an output. */
function ofTheCost(frame, j, example, upstream) {
  const wanted = frame.target(example)[j];
  const output = frame.row(frame.layers.length - 1, "activations", example)[j];
  const equation = {left: "∂C/∂aⱼ", short: "∂C/∂aⱼ", result: number(upstream)};
  switch (frame.network.cost) {
    case "squared_error":
      return {...equation, short: "2(aⱼ − yⱼ)", symbols: "2(aⱼ − yⱼ)", numbers: `2 · (${number(output)} − ${wanted})`};
    case "cross_entropy":
      return {
        ...equation,
        short: "(softmax(a)ⱼ − yⱼ)",
        symbols: "softmax(a)ⱼ − yⱼ",
        numbers: `${number(upstream + wanted)} − ${wanted}`,
      };
    default:
      return equation;
  }
}

/** ∂C/∂a of a hidden neuron: the sum over the layer after it. */
function ofTheLayerAfter(network, l, upstream) {
  const symbols = `Σ w · ∂C/∂z, over ${network.sizes[l + 2]} neurons after it`;
  return {left: "∂C/∂aⱼ", short: "∂C/∂aⱼ", symbols, result: number(upstream)};
}

/** z, where all that it is the sum of was kept. */
function weightedSum(frame, l, j, example) {
  const {bias, ins} = frame.layers[l];
  if (ins !== frame.network.sizes[l]) return null;
  const before = frame.before(l, example);
  let sum = bias?.[j] ?? 0;
  frame.weights(l, j).forEach((w, k) => (sum += w * before[k]));
  return {left: "zⱼ", symbols: bias ? "Σ w · aₖ + b" : "Σ w · aₖ", result: number(sum)};
}
