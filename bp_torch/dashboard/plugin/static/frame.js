// Reads networks and frames from their files; bp_torch/dashboard/frame_format.py describes the format.
//
// Signs, in the whole tab: ∂C/∂a, δ = ∂C/∂z, ∂C/∂w and ∂C/∂b are gradients. A nudge is minus a gradient, what lowers the
// cost: of an activation −∂C/∂a, of a weighted sum and its bias −δ, of a weight −δ · a. Nothing that has a nudge's sign is
// called δ, and every number that is a nudge is labelled "nudge".

import {read} from "./safetensors.js";

export const FORMAT = 1;
const NO_NUDGE = 128; // among the shades of "pixel_nudges"

/** What all frames of a run share. `refusal` is the reason if they cannot be shown. */
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
    throw new Error("the lists of its layers differ in length");
  }
  if (![...sizes, ...kept, steps, low, high].every(Number.isFinite)) throw new Error("sizes or steps are missing");
  const labels = take(arrays, "labels", [null]);
  const inputs = await inflate(take(arrays, "inputs", [null]), labels.length * sizes[0]);
  return {...network, labels, inputs, range: [low, high]};
}

/** One frame of a network. */
export async function readFrame(buffer, network) {
  const {arrays, metadata} = read(buffer);
  const state = json(metadata.frame, "frame");
  const labels = take(arrays, "labels", [null]);
  const probes = network.labels.length;
  if (labels.length <= probes) throw new Error("it has no mini-batch");
  if (!Array.isArray(state.comparisons) || !state.comparisons.every((one) => one && typeof one.name === "string")) {
    throw new Error("its comparisons are missing");
  }
  const inputs = await inflate(take(arrays, "inputs", [null]), (labels.length - probes) * network.sizes[0]);
  const costs = take(arrays, "costs", [labels.length]);
  const layers = [];
  for (let l = 0; l < network.functions.length; l++) layers.push(layerOf(arrays, network, l, labels.length));
  const cut = network.kept[1] < network.sizes[1];
  const pixelNudges = cut ? take(arrays, "pixel_nudges", [labels.length, network.sizes[0]]) : null;
  return new Frame(network, {...state, labels, costs, layers, inputs, pixelNudges});
}

/** A step of training: the network before it, and the nudges of P probes followed by the examples of its mini-batch. */
class Frame {
  constructor(network, state) {
    Object.assign(this, state, {network, probes: network.labels.length});
  }

  /** The indices of the mini-batch's examples. */
  get miniBatch() {
    return Array.from({length: this.labels.length - this.probes}, (_, n) => this.probes + n);
  }

  /** The index of the mini-batch's example with the highest cost. */
  get worst() {
    return this.miniBatch.reduce((worst, n) => (this.costs[n] > this.costs[worst] ? n : worst));
  }

  /** The inputs of an example. */
  input(example) {
    const {network, probes} = this;
    const probe = example < probes;
    const [low, high] = probe ? network.range : [this.low, this.high];
    const width = network.sizes[0];
    const first = (probe ? example : example - probes) * width;
    const shades = (probe ? network.inputs : this.inputs).subarray(first, first + width);
    return Float32Array.from(shades, (shade) => low + (shade / 255) * (high - low));
  }

  /** The inputs of a layer: the previous activations, or the example's pixels. */
  before(l, example) {
    return l === 0 ? this.input(example) : this.row(l - 1, "activations", example);
  }

  /** The activations, slopes or nudges of a layer in one example. */
  row(l, kind, example) {
    const {out} = this.layers[l];
    return this.layers[l][kind].subarray(example * out, (example + 1) * out);
  }

  /** An example's nudges of the weighted sums, which are those of the biases: −δ = f′(z) · (−∂C/∂a). */
  sumNudges(l, example) {
    const nudges = this.row(l, "nudges", example);
    return this.row(l, "slopes", example).map((slope, j) => slope * nudges[j]);
  }

  /** The weights of a neuron. */
  weights(l, j) {
    const {weight, ins} = this.layers[l];
    return weight.subarray(j * ins, (j + 1) * ins);
  }

  /** An example's nudges of a neuron's weights: −δⱼ aₖ. */
  weightNudges(l, j, example) {
    const nudge = this.sumNudges(l, example)[j];
    return this.before(l, example).map((a) => nudge * a);
  }

  /** The nudges that one neuron gives to the previous activations: −δⱼ wⱼₖ. */
  contributions(l, j, example) {
    const nudge = this.sumNudges(l, example)[j];
    return this.weights(l, j).map((w) => nudge * w);
  }

  /** The nudges of the inputs of a layer by all of its neurons, including those that are not in the file. */
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

  /** The average nudges of a neuron's weights over the mini-batch: minus the gradient. */
  averageNudges(l, j) {
    const {weightGradient, ins} = this.layers[l];
    return weightGradient ? weightGradient.subarray(j * ins, (j + 1) * ins).map((g) => -g) : new Float32Array(ins);
  }

  /** Whether the step changes the layer. */
  learns(l) {
    return Boolean(this.layers[l].weightGradient || this.layers[l].biasGradient);
  }

  /** The class with the largest output. */
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

/** The array of this name; an Error unless it has this shape, in which null stands for any length. */
function take(arrays, name, shape) {
  const found = Object.hasOwn(arrays, name) ? arrays[name] : null;
  if (!found || found.shape.length !== shape.length) throw new Error(`its array ${name} is missing`);
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
  if (inflated.length !== length) throw new Error("pictures are missing");
  return inflated;
}

function json(text, what) {
  try {
    const metadata = JSON.parse(text);
    if (metadata !== null && typeof metadata === "object") return metadata;
  } catch {
    // reported below
  }
  throw new Error(`its ${what} metadata is missing or damaged`);
}
