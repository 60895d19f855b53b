// From what was chosen, as the address has it, to what is looked at.

import {defaultMaps} from "./phases.js";

/** The maps of the first layer to choose from; usually they change with the phase. */
export const MAPS = {
  usual: "As the phase has it",
  weights: "Weights",
  change: "Nudges of weights",
  pixels: "Nudges of pixels",
};

/** What is looked at: every choice made, or what is usual in place of one that is not there. */
export function viewOf(frame, phases, state) {
  const {layers} = frame;
  const phase = phases.find(({id}) => id === state.phase) ?? phases[0];
  const [exampleId, example] = exampleOf(frame, state.example);
  const wanted = Math.max(0, Math.min(frame.labels[example], layers.at(-1).out - 1));
  const pin = pinOf(layers, state.pin);
  const layer = within(state.layer, layers.length) ?? pin?.l ?? layers.length - 1;
  const usual = layer === pin?.l ? pin.j : layer === layers.length - 1 ? wanted : 0;
  const neuron = within(state.neuron, layers[layer].out) ?? usual;
  const chosenMaps = Object.hasOwn(MAPS, state.maps) ? state.maps : "usual";
  const maps = chosenMaps === "usual" ? defaultMaps(phase, layer) : chosenMaps;
  const column = Math.trunc(Number(state.column)) || 0;
  // Whose chain rule is shown, unless something else is pointed at: the pinned weight's, if it is this neuron's.
  const target = pin?.l === layer && pin.j === neuron ? pin : {l: layer, j: neuron};
  return {phase, exampleId, example, layer, neuron, chosenMaps, maps, pin, target, column};
}

/** An example's name in the address, and its place in the frame. */
function exampleOf(frame, name = "0") {
  const n = /^batch-(\d+)$/.exec(name)?.[1];
  if (n !== undefined && n < frame.miniBatch.length) return [name, frame.probes + Number(n)];
  if (name === "worst") return [name, frame.worst];
  const probe = within(name, frame.probes) ?? 0;
  return [`${probe}`, probe];
}

function pinOf(layers, name) {
  const [l, j, k] = /^\d+\.\d+\.\d+$/.test(name) ? name.split(".").map(Number) : [];
  return layers[l] && j < layers[l].out && k < layers[l].ins ? {l, j, k} : null;
}

/** How a weight is called in the address. */
export const nameOf = ({l, j, k}) => (k === undefined ? null : `${l}.${j}.${k}`);

export const same = (a, b) => Boolean(a && b) && a.l === b.l && a.j === b.j && a.k === b.k;

/** A whole number from 0 that is below a limit; otherwise undefined. */
function within(text, limit) {
  const value = Number(text ?? NaN);
  return Number.isInteger(value) && value >= 0 && value < limit ? value : undefined;
}

/** This step, or the nearest one logged; the first if none is. */
export function nearest(steps, step) {
  const wanted = Number(step ?? NaN);
  if (Number.isNaN(wanted)) return steps[0];
  return steps.reduce((best, one) => (Math.abs(one - wanted) < Math.abs(best - wanted) ? one : best), steps[0]);
}
