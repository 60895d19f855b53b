// A network and its frames, read from their files; see bp_torch/dashboard/frame_format.py for what is in them.
//
// Signs, in the whole tab: ∂C/∂a, δ = ∂C/∂z, ∂C/∂w and ∂C/∂b are gradients. A nudge is minus a gradient, what lowers the
// cost: of an activation −∂C/∂a, of a weighted sum and its bias −δ, of a weight −δ · a. Nothing that has a nudge's sign is
// called δ, and "nudge" stands beside every number that is one.

import {read} from "./safetensors.js";

export const FORMAT = 1;
const NO_NUDGE = 128; // among the shades of "pixel_nudges"

/** What the frames of a run have in common. `refusal` says why none can be shown, where that is so. */
export async function readNetwork(buffer) {
  const {arrays, metadata} = read(buffer);
  const network = json(metadata.network, "network");
  if (network.format !== FORMAT) {
    const refusal = `it was written in format ${network.format}, and this tab reads format ${FORMAT}. Use the same version of bp_torch for both`;
    return {...network, refusal, unknown: true};
  }
  if (network.refusal) return network;
  const {sizes, kept, functions, names, steps, low, high} = network;
  const lists = [sizes, kept, functions, names].every(Array.isArray) && names.every(Array.isArray);
  const lengths = lists && [sizes.length, kept.length, functions.length + 1, names.length + 1];
  if (!lists || new Set(lengths).size > 1 || !functions.length) {
    throw new Error("what it says of its layers does not fit together");
  }
  if (![...sizes, ...kept, steps, low, high].every(Number.isFinite)) throw new Error("it lacks numbers of itself");
  const labels = take(arrays, "labels", [null]);
  const inputs = await inflate(take(arrays, "inputs", [null]), labels.length * sizes[0]);
  return {...network, labels, inputs, range: [low, high]};
}

/** One step, of a network. */
export async function readFrame(buffer, network) {
  const {arrays, metadata} = read(buffer);
  const state = json(metadata.frame, "frame");
  const labels = take(arrays, "labels", [null]);
  const probes = network.labels.length;
  if (labels.length <= probes) throw new Error("it has no mini-batch");
  if (!Array.isArray(state.comparisons) || !state.comparisons.every((one) => one && typeof one.name === "string")) {
    throw new Error("it does not say what was compared");
  }
  const inputs = await inflate(take(arrays, "inputs", [null]), (labels.length - probes) * network.sizes[0]);
  const costs = take(arrays, "costs", [labels.length]);
  const layers = [];
  for (let l = 0; l < network.functions.length; l++) layers.push(layerOf(arrays, network, l, labels.length));
  const cut = network.kept[1] < network.sizes[1];
  const pixelNudges = cut ? take(arrays, "pixel_nudges", [labels.length, network.sizes[0]]) : null;
  return new Frame(network, {...state, labels, costs, layers, inputs, pixelNudges});
}

/** A step of training: the network before it, and the nudges of P probes and then the examples of its mini-batch. */
class Frame {
  constructor(network, state) {
    Object.assign(this, state, {network, probes: network.labels.length});
  }

  /** Where the mini-batch's examples stand among all. */
  get miniBatch() {
    return Array.from({length: this.labels.length - this.probes}, (_, n) => this.probes + n);
  }

  /** The mini-batch's example of the highest cost. */
  get worst() {
    return this.miniBatch.reduce((worst, n) => (this.costs[n] > this.costs[worst] ? n : worst));
  }

  /** What the network takes of an example. */
  input(example) {
    const {network, probes} = this;
    const probe = example < probes;
    const [low, high] = probe ? network.range : [this.low, this.high];
    const width = network.sizes[0];
    const first = (probe ? example : example - probes) * width;
    const shades = (probe ? network.inputs : this.inputs).subarray(first, first + width);
    return Float32Array.from(shades, (shade) => low + (shade / 255) * (high - low));
  }

  /** What reaches a layer: the activations before it, or the example's pixels. */
  before(l, example) {
    return l === 0 ? this.input(example) : this.row(l - 1, "activations", example);
  }

  /** One example's activations, slopes or nudges at a layer. */
  row(l, kind, example) {
    const {out} = this.layers[l];
    return this.layers[l][kind].subarray(example * out, (example + 1) * out);
  }

  /** An example's nudge of each weighted sum, and so of each bias: −δ = f′(z) · (−∂C/∂a). */
  sumNudges(l, example) {
    const nudges = this.row(l, "nudges", example);
    return this.row(l, "slopes", example).map((slope, j) => slope * nudges[j]);
  }

  /** A neuron's weights. */
  weights(l, j) {
    const {weight, ins} = this.layers[l];
    return weight.subarray(j * ins, (j + 1) * ins);
  }

  /** An example's nudges of a neuron's weights: −δⱼ aₖ. */
  weightNudges(l, j, example) {
    const nudge = this.sumNudges(l, example)[j];
    return this.before(l, example).map((a) => nudge * a);
  }

  /** The nudges of the activations before a neuron by it alone: −δⱼ wⱼₖ. */
  contributions(l, j, example) {
    const nudge = this.sumNudges(l, example)[j];
    return this.weights(l, j).map((w) => nudge * w);
  }

  /** The nudges of the activations before a layer, or of the pixels, by all its neurons, kept or not. */
  inputNudges(l, example) {
    if (l > 0) return this.row(l - 1, "nudges", example);
    const {out, ins} = this.layers[0];
    if (this.pixelNudges)
      return Float64Array.from(this.pixelNudges.subarray(example * ins, (example + 1) * ins), (x) => x - NO_NUDGE);
    const nudges = this.sumNudges(0, example);
    const sum = new Float64Array(ins);
    for (let j = 0; j < out; j++) this.weights(0, j).forEach((w, k) => (sum[k] += nudges[j] * w));
    return sum;
  }

  /** The mini-batch's average nudges of a neuron's weights: minus the gradient that is applied. */
  averageNudges(l, j) {
    const {weightGradient, ins} = this.layers[l];
    return weightGradient ? weightGradient.subarray(j * ins, (j + 1) * ins).map((g) => -g) : new Float32Array(ins);
  }

  /** Whether a layer has anything that the step changes. */
  learns(l) {
    return Boolean(this.layers[l].weightGradient || this.layers[l].biasGradient);
  }

  /** The class whose output is largest. */
  answer(example) {
    const outputs = this.row(this.layers.length - 1, "activations", example);
    return outputs.indexOf(Math.max(...outputs));
  }

  /** The target of each output. */
  target(example) {
    return Array.from({length: this.layers.at(-1).out}, (_, j) => Number(j === this.labels[example]));
  }
}

function layerOf(arrays, network, l, examples) {
  const all = network.sizes[l + 1];
  const [ins, out] = network.kept.slice(l, l + 2);
  const state = (kind) => [kind, take(arrays, `${l}.${kind}`, [examples, out])];
  const [weightName, biasName] = network.names[l];
  return {
    all,
    out,
    ins,
    weight: take(arrays, `${l}.weight`, [out, ins]),
    bias: `${l}.bias` in arrays ? take(arrays, `${l}.bias`, [out]) : null,
    weightGradient: weightName === null ? null : take(arrays, `${l}.weight.gradient`, [out, ins]),
    biasGradient: biasName === null ? null : take(arrays, `${l}.bias.gradient`, [out]),
    ...Object.fromEntries(["activations", "slopes", "nudges"].map(state)),
  };
}

/** An array that must be there, of this shape; null stands for any length. */
function take(arrays, name, shape) {
  const found = Object.hasOwn(arrays, name) ? arrays[name] : null;
  if (!found || found.shape.length !== shape.length) throw new Error(`it lacks the array ${name}`);
  if (shape.some((length, i) => length !== null && length !== found.shape[i])) {
    throw new Error(`its array ${name} is ${found.shape.join(" by ")}, not ${shape.join(" by ")}`);
  }
  return found.data;
}

async function inflate(deflated, length) {
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  let inflated;
  try {
    inflated = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error("its pictures are damaged");
  }
  if (inflated.length !== length) throw new Error("it lacks pictures");
  return inflated;
}

function json(text, what) {
  try {
    const metadata = JSON.parse(text);
    if (metadata !== null && typeof metadata === "object") return metadata;
  } catch {
    // reported below
  }
  throw new Error(`it does not say what ${what} it is`);
}
