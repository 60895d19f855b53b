// Where everything stands in the picture of a network, and what stands where.

import {shape} from "./maps.js";

export const WIDTH = 1120;
export const HEIGHT = 560;
export const TITLES = 18;
export const DIGIT = {x: 6, y: 190, width: 172, height: 172};

const TOP = 44;
const BOTTOM = HEIGHT - 40;
const FIRST = 345; // the columns of the first layer and of the last
const LAST = 960;
const BEFORE = 104; // how far the maps stand before the neurons that they belong to
const NEAR = 5; // how close to a line counts as on it

export class Geometry {
  /** Of a frame's layers; each becomes a column of places, with its `x`, the `gap` between neurons and their `radius`. */
  constructor(layers, inputs) {
    this.layers = layers;
    this.inputs = inputs;
    this.columns = layers.map(({out}, l) => columnOf(out, l, layers.length));
    this.mapSide = Math.min(30, this.columns[0].gap - 2);
  }

  /** The middle of the maps. */
  get mapsX() {
    return this.columns[0].x - BEFORE;
  }

  /** The box of a first-layer neuron's map. */
  map(j) {
    const half = this.mapSide / 2;
    return {x: this.mapsX - half, y: this.columns[0][j].y - half, width: 2 * half, height: 2 * half};
  }

  /** The box of one pixel in it, large enough to be seen. */
  pixel(j, k) {
    const [width] = shape(this.inputs);
    const side = this.mapSide / width;
    const {x, y} = this.map(j);
    const size = Math.max(side, 2);
    return {x: x + (k % width) * side, y: y + Math.floor(k / width) * side, width: size, height: size};
  }

  /** The weights between two columns, in the order in which a frame has them: {l, j, k} of each. */
  weights(l) {
    const {ins, out} = this.layers[l];
    return Array.from({length: l ? out * ins : 0}, (_, place) => ({l, j: Math.floor(place / ins), k: place % ins}));
  }

  /** Where a weight's line begins and ends. */
  line({l, j, k}) {
    const [from, to] = [this.columns[l - 1][k], this.columns[l][j]];
    return {x1: from.x, y1: from.y, x2: to.x, y2: to.y};
  }

  /** What is at a point: a neuron {l, j}, a pixel's weight {l, j, k}, or the nearest line of those that can be seen. */
  at(point, isSeen) {
    return this.#neuronAt(point) ?? this.#pixelAt(point) ?? this.#lineAt(point, isSeen);
  }

  #neuronAt({x, y}) {
    for (const [l, column] of this.columns.entries()) {
      const j = column.findIndex((place) => Math.hypot(place.x - x, place.y - y) <= column.radius + 2);
      if (j >= 0) return {l, j};
    }
    return null;
  }

  #pixelAt(point) {
    const [width, height] = shape(this.inputs);
    for (let j = 0; j < this.columns[0].length; j++) {
      const map = this.map(j);
      const column = Math.floor(((point.x - map.x) / map.width) * width);
      const row = Math.floor(((point.y - map.y) / map.width) * width);
      const k = row * width + column;
      if (column >= 0 && column < width && row >= 0 && row < height && k < this.inputs) return {l: 0, j, k};
    }
    return null;
  }

  #lineAt({x, y}, isSeen) {
    const l = this.columns.findIndex((column) => column.x > x);
    if (l < 1) return null;
    const distances = this.weights(l).map((at, place) => {
      const {x1, y1, x2, y2} = this.line(at);
      const distance = Math.abs(y1 + ((y2 - y1) * (x - x1)) / (x2 - x1) - y);
      return {at, distance: distance < NEAR && isSeen(l, place) ? distance : Infinity};
    });
    const nearest = distances.reduce((a, b) => (b.distance < a.distance ? b : a));
    return nearest.distance < NEAR ? nearest.at : null;
  }
}

function columnOf(out, l, layers) {
  const x = layers === 1 ? (FIRST + LAST) / 2 : FIRST + ((LAST - FIRST) * l) / (layers - 1);
  const gap = Math.min(44, (BOTTOM - TOP - 4) / out);
  const middle = (TOP + BOTTOM) / 2;
  const places = Array.from({length: out}, (_, j) => ({x, y: middle + (j - (out - 1) / 2) * gap}));
  return Object.assign(places, {x, gap, radius: Math.min(14, gap * 0.46)});
}
