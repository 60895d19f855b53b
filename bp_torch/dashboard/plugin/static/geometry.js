// The positions of everything in the picture of a network, and what is at a position.

import {shape} from "./maps.js";

export const WIDTH = 1120;
export const HEIGHT = 560;
export const TITLES = 18;
export const DIGIT = {x: 6, y: 190, width: 172, height: 172};

const TOP = 44;
const BOTTOM = HEIGHT - 40;
const FIRST = 345; // x of the first and the last layer's column
const LAST = 960;
const BEFORE = 104; // distance from a map to its neuron
const NEAR = 5; // distance at which the pointer is on a line

export class Geometry {
  /** Makes each layer of a frame a column of places, with its `x`, the `gap` between neurons and their `radius`. */
  constructor(layers, inputs) {
    this.layers = layers;
    this.inputs = inputs;
    this.columns = layers.map(({out}, l) => columnOf(out, l, layers.length));
    this.mapSide = Math.min(30, this.columns[0].gap - 2);
  }

  /** The x of the centre of the maps. */
  get mapsX() {
    return this.columns[0].x - BEFORE;
  }

  /** The box of a first-layer neuron's map. */
  map(j) {
    const half = this.mapSide / 2;
    return {x: this.mapsX - half, y: this.columns[0][j].y - half, width: 2 * half, height: 2 * half};
  }

  /** The box of a pixel in a map, large enough to be visible. */
  pixel(j, k) {
    const [width] = shape(this.inputs);
    const side = this.mapSide / width;
    const {x, y} = this.map(j);
    const size = Math.max(side, 2);
    return {x: x + (k % width) * side, y: y + Math.floor(k / width) * side, width: size, height: size};
  }

  /** The weights between two columns as {l, j, k}, in the order of the frame. */
  weights(l) {
    const {ins, out} = this.layers[l];
    return Array.from({length: l ? out * ins : 0}, (_, place) => ({l, j: Math.floor(place / ins), k: place % ins}));
  }

  /** The end points of a weight's line. */
  line({l, j, k}) {
    const [from, to] = [this.columns[l - 1][k], this.columns[l][j]];
    return {x1: from.x, y1: from.y, x2: to.x, y2: to.y};
  }

  /** What is at a point: a neuron {l, j}, a pixel's weight {l, j, k}, or the nearest visible line. */
  at(point, isVisible) {
    return this.#neuronAt(point) ?? this.#pixelAt(point) ?? this.#lineAt(point, isVisible);
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

  #lineAt({x, y}, isVisible) {
    const l = this.columns.findIndex((column) => column.x > x);
    if (l < 1) return null;
    const distances = this.weights(l).map((at, place) => {
      const {x1, y1, x2, y2} = this.line(at);
      const distance = Math.abs(y1 + ((y2 - y1) * (x - x1)) / (x2 - x1) - y);
      return {at, distance: distance < NEAR && isVisible(l, place) ? distance : Infinity};
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
