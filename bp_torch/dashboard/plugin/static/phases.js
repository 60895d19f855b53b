// The phases of the lecture: what each draws, and its caption.

import {layerName, neuronName} from "./chain.js";
import {largest} from "./maps.js";
import {count, number, signed} from "./numbers.js";

/** The phases of a network, in order. `layer` is the layer whose nudges of the previous activations are added up. */
export function phasesOf(network) {
  const last = network.functions.length - 1;
  const back = Array.from({length: last}, (_, i) => ({
    id: `back-${i + 1}`,
    title: i === last - 1 ? "Back to the pixels" : i ? "Another layer back" : "One layer back",
    layer: last - 1 - i,
  }));
  const sums = {id: "sums", title: "Nudges added up", layer: last};
  return [
    {id: "forward", title: "Forward"},
    {id: "nudges", title: "Output nudges"},
    {id: "avenues", title: "Three avenues"},
    sums,
    ...back,
    {id: "average", title: "Average"},
    {id: "step", title: "The step"},
  ];
}

/** The maps of first-layer weights that a phase shows by default; `chosen` is the layer of the chosen neuron. */
export function defaultMaps(phase, chosen) {
  if (phase.layer === 0) return "pixels";
  const changes = phase.id === "average" || phase.id === "step" || (phase.id === "avenues" && chosen === 0);
  return changes ? "change" : "weights";
}

/** What to draw: in `edges[l]` a value for each weight, in `arrows[l]` one for each neuron; null draws nothing. */
export function sceneOf(frame, phase, view) {
  const count = frame.layers.length;
  const scene = {edges: Array(count).fill(null), arrows: Array(count).fill(null), contributions: null, pixels: null};
  const {example} = view;
  if (phase.layer !== undefined) addUp(scene, frame, phase.layer, example);
  else SCENES[phase.id](scene, frame, view);
  return {...scene, maps: mapsOf(frame, phase, view)};
}

const SCENES = {
  forward(scene, frame) {
    frame.layers.forEach(({weight}, l) => (scene.edges[l] = weight));
  },
  nudges(scene, frame, {example}) {
    const last = frame.layers.length - 1;
    scene.arrows[last] = frame.row(last, "nudges", example);
  },
  avenues(scene, frame, {example, layer, neuron}) {
    const {out, ins} = frame.layers[layer];
    scene.edges[layer] = new Float64Array(out * ins);
    scene.edges[layer].set(frame.weightNudges(layer, neuron, example), neuron * ins);
    scene.arrows[layer] = frame.row(layer, "nudges", example).map((nudge, j) => (j === neuron ? nudge : 0));
    if (layer > 0) scene.arrows[layer - 1] = frame.contributions(layer, neuron, example);
    else scene.pixels = frame.contributions(0, neuron, example);
  },
  average(scene, frame) {
    frame.layers.forEach(({weightGradient}, l) => (scene.edges[l] = weightGradient?.map((g) => -g) ?? null));
  },
  step(scene, frame) {
    const rate = frame.learning_rate;
    frame.layers.forEach(({weightGradient}, l) => (scene.edges[l] = weightGradient?.map((g) => -rate * g) ?? null));
  },
};

/** The nudges of the previous activations by each neuron of a layer, their sums, and the nudges of later weights. */
function addUp(scene, frame, layer, example) {
  const {out, ins} = frame.layers[layer];
  const each = Array.from({length: out}, (_, j) => frame.contributions(layer, j, example));
  scene.edges[layer] = Float64Array.from({length: out * ins}, (_, i) => each[Math.floor(i / ins)][i % ins]);
  for (let l = layer; l < frame.layers.length; l++) scene.arrows[l] = frame.row(l, "nudges", example);
  for (let l = layer + 1; l < frame.layers.length; l++) scene.edges[l] = exampleNudges(frame, l, example);
  if (layer === 0) {
    scene.pixels = frame.inputNudges(0, example);
  } else {
    scene.contributions = {layer: layer - 1, each}; // drawn over the lines
    scene.arrows[layer - 1] = frame.inputNudges(layer, example);
  }
}

/** An example's nudges of all weights of a layer. */
function exampleNudges(frame, l, example) {
  const {out, ins} = frame.layers[l];
  const nudges = new Float32Array(out * ins);
  for (let j = 0; j < out; j++) nudges.set(frame.weightNudges(l, j, example), j * ins);
  return nudges;
}

/** A map for each neuron of the first layer. */
function mapsOf(frame, phase, {example, maps}) {
  const averaged = phase.id === "average" || phase.id === "step";
  const change = averaged ? (j) => frame.averageNudges(0, j) : (j) => frame.weightNudges(0, j, example);
  const values = {weights: (j) => frame.weights(0, j), change, pixels: (j) => frame.contributions(0, j, example)}[maps];
  return Array.from({length: frame.layers[0].out}, (_, j) => values(j));
}

/** The caption of a phase. */
export function captionOf(frame, phase, view) {
  if (phase.layer !== undefined) return addedUp(frame, phase.layer, view);
  return CAPTIONS[phase.id](frame, view);
}

const CAPTIONS = {
  forward(frame, {example}) {
    const answer = frame.answer(example);
    const label = frame.labels[example];
    const verdict = answer === label ? "which is right" : `but the label is ${label}`;
    const sum = frame.network.cost === "squared_error" ? ", the sum of squared differences from the target" : "";
    return (
      `Each neuron multiplies the previous activations by its weights and adds them up with its bias. Its activation function is applied to the sum. ` +
      `Output ${answer} is the largest, ${verdict}. The cost of this example is ${number(frame.costs[example])}${sum}.`
    );
  },
  nudges(frame, {example}) {
    const last = frame.layers.length - 1;
    const nudges = frame.row(last, "nudges", example);
    const label = frame.labels[example];
    const most = nudges.reduce(
      (m, nudge, j) => (j !== label && Math.abs(nudge) > Math.abs(nudges[m] ?? 0) ? j : m),
      -1,
    );
    const others = most < 0 ? "" : ` Among the others, output ${most} has the largest nudge, ${signed(nudges[most])}.`;
    const outputs = frame.row(last, "activations", example);
    const target = `Output ${label} is ${number(outputs[label])} and should be larger. Its nudge, minus the gradient of the cost, is ${signed(nudges[label])}.`;
    const compared = {squared_error: "the output", cross_entropy: "its probability"}[frame.network.cost];
    const why = compared ? ` Each nudge is proportional to the difference between ${compared} and the target.` : "";
    return `${label < nudges.length ? target : ""}${others}${why}`;
  },
  avenues(frame, {example, layer, neuron}) {
    const name = neuronName(frame.network, layer, neuron);
    const nudge = frame.sumNudges(layer, example)[neuron];
    const [inputs, weights, nudges] = layer
      ? ["the previous activations", "lines", "arrows"]
      : ["the pixels", "map", "colours over the digit"];
    return (
      `There are three ways to change ${name}. Its bias has the nudge ${signed(nudge)}. The nudges of its weights (the ${weights}) are proportional ` +
      `to ${inputs}. The nudges of ${inputs} (the ${nudges}) are proportional to its weights. Click another neuron to see its avenues.`
    );
  },
  average(frame, {layer, neuron}) {
    const name = neuronName(frame.network, layer, neuron);
    return (
      `Each of the ${count(frame.examples)} examples of the mini-batch has its own nudges. The lines show their average, ` +
      `which is the negative gradient. The table shows each example’s nudges of the weights of ${name}, and their mean.`
    );
  },
  step(frame) {
    const moved = frame.layers.flatMap(({weightGradient}) => (weightGradient ? [largest(weightGradient)] : []));
    const most = frame.learning_rate * Math.max(0, ...moved);
    const who = frame.layers.every((_, l) => frame.learns(l))
      ? "Every weight and bias"
      : "Every weight and bias that is not frozen";
    return (
      `${who} changes by its average nudge times the learning rate, ${number(frame.learning_rate)}. ` +
      `The largest change of a weight is ${number(most)}. Move the slider to see another step of training.`
    );
  },
};

function addedUp(frame, layer, {example, maps}) {
  const {network} = frame;
  const last = layer === network.functions.length - 1;
  const who = last ? "Each output" : `Each neuron of ${layerName(network, layer)}`;
  if (layer === 0) {
    return (
      `${who} has its own nudge for every pixel${maps === "pixels" ? ", shown in its map" : ""}. Their sum is drawn over the digit: blue pixels should be brighter, ` +
      `orange pixels darker. The recursion ends here, because the pixels are given.`
    );
  }
  const sum = frame.inputNudges(layer, example);
  const {out, all} = frame.layers[layer];
  const some = out < all ? ` (${out} of ${count(all)} are drawn)` : "";
  const most = sum.reduce((m, nudge, k) => (Math.abs(nudge) > Math.abs(sum[m]) ? k : m), 0);
  return (
    `${who} has its own nudge for each previous neuron, shown as a square${some}. The arrow is their sum. ` +
    `${sum.length < network.sizes[layer] ? "Among those drawn, neuron" : "Neuron"} ${most} has the largest, ${signed(sum[most])}. ` +
    (last
      ? "Adding them up and passing them on is backpropagation."
      : "This is the same step, one layer further back.")
  );
}
