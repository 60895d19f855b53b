// From what was chosen, as the address has it, to what is looked at.

import {usualMaps} from "./phases.js";

/** The maps of the first layer to choose from; usually they change with the phase. */
export const MAPS = {
  usual: "As the phase has it",
  weights: "Weights",
  change: "Desired change",
  pixels: "Asked of pixels",
};

/** What is looked at: every choice made, or what is usual in place of one that is not there. */
export function viewOf(frame, phases, said) {
  const {layers} = frame;
  const phase = phases.find(({id}) => id === said.phase) ?? phases[0];
  const [exampleId, example] = exampleOf(frame, said.example);
  const wanted = Math.max(0, Math.min(frame.labels[example], layers.at(-1).out - 1));
  const pin = pinOf(layers, said.pin);
  const layer = within(said.layer, layers.length) ?? pin?.l ?? layers.length - 1;
  const usual = layer === pin?.l ? pin.j : layer === layers.length - 1 ? wanted : 0;
  const neuron = within(said.neuron, layers[layer].out) ?? usual;
  const chosenMaps = Object.hasOwn(MAPS, said.maps) ? said.maps : "usual";
  const maps = chosenMaps === "usual" ? usualMaps(phase, layer) : chosenMaps;
  const column = Math.trunc(Number(said.column)) || 0;
  // Whose chain rule is shown, unless something else is pointed at: the pinned weight's, if it is this neuron's.
  const target = pin?.l === layer && pin.j === neuron ? pin : {l: layer, j: neuron};
  return {phase, exampleId, example, layer, neuron, chosenMaps, maps, pin, target, column};
}

/** An example's name in the address, and its place in the frame. */
function exampleOf(frame, said = "0") {
  const n = /^batch-(\d+)$/.exec(said)?.[1];
  if (n !== undefined && n < frame.miniBatch.length) return [said, frame.probes + Number(n)];
  if (said === "worst") return [said, frame.worst];
  const probe = within(said, frame.probes) ?? 0;
  return [`${probe}`, probe];
}

function pinOf(layers, said) {
  const [l, j, k] = /^\d+\.\d+\.\d+$/.test(said) ? said.split(".").map(Number) : [];
  return layers[l] && j < layers[l].out && k < layers[l].ins ? {l, j, k} : null;
}

/** How a weight is called in the address. */
export const nameOf = ({l, j, k}) => (k === undefined ? null : `${l}.${j}.${k}`);

export const same = (a, b) => Boolean(a && b) && a.l === b.l && a.j === b.j && a.k === b.k;

/** A whole number from 0 that is below a limit; otherwise undefined. */
function within(said, limit) {
  const value = Number(said ?? NaN);
  return Number.isInteger(value) && value >= 0 && value < limit ? value : undefined;
}

/** The step that is asked for, or the nearest one logged; the first if none is. */
export function nearest(steps, said) {
  const wanted = Number(said ?? NaN);
  if (Number.isNaN(wanted)) return steps[0];
  return steps.reduce((best, step) => (Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best), steps[0]);
}
