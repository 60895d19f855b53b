// What is shown, computed from the state in the address.

import {defaultMaps} from "./phases.js";

/** The kinds of maps of the first layer; by default they depend on the phase. */
export const MAPS = {
  default: "Default of the phase",
  weights: "Weights",
  change: "Nudges of weights",
  pixels: "Nudges of pixels",
};

/** What is shown: each choice of the state, or a default if it is missing or invalid. */
export function viewOf(frame, phases, state) {
  const {layers} = frame;
  const phase = phases.find(({id}) => id === state.phase) ?? phases[0];
  const [exampleId, example] = exampleOf(frame, state.example);
  const label = Math.max(0, Math.min(frame.labels[example], layers.at(-1).out - 1));
  const pin = pinOf(layers, state.pin);
  const layer = within(state.layer, layers.length) ?? pin?.l ?? layers.length - 1;
  const preset = layer === pin?.l ? pin.j : layer === layers.length - 1 ? label : 0;
  const neuron = within(state.neuron, layers[layer].out) ?? preset;
  const chosenMaps = Object.hasOwn(MAPS, state.maps) ? state.maps : "default";
  const maps = chosenMaps === "default" ? defaultMaps(phase, layer) : chosenMaps;
  const column = Math.trunc(Number(state.column)) || 0;
  // The chain rule shown unless the pointer is elsewhere: that of the pinned weight if it belongs to this neuron.
  const target = pin?.l === layer && pin.j === neuron ? pin : {l: layer, j: neuron};
  return {phase, exampleId, example, layer, neuron, chosenMaps, maps, pin, target, column};
}

/** An example's name in the address, and its index in the frame. */
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

/** The name of a weight in the address. */
export const nameOf = ({l, j, k}) => (k === undefined ? null : `${l}.${j}.${k}`);

export const same = (a, b) => Boolean(a && b) && a.l === b.l && a.j === b.j && a.k === b.k;

/** A whole number from 0 that is below a limit; otherwise undefined. */
function within(text, limit) {
  const value = Number(text ?? NaN);
  return Number.isInteger(value) && value >= 0 && value < limit ? value : undefined;
}

/** The nearest recorded step; the first if no step is given. */
export function nearest(steps, step) {
  const target = Number(step ?? NaN);
  if (Number.isNaN(target)) return steps[0];
  return steps.reduce((best, one) => (Math.abs(one - target) < Math.abs(best - target) ? one : best), steps[0]);
}
