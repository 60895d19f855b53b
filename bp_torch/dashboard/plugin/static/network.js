// The network as a picture: the digit, a map of each first-layer neuron, neurons, and the weights between them.

import {neuronName} from "./chain.js";
import {css, ink, strong, wish} from "./colours.js";
import {set, svg} from "./dom.js";
import {draw, greys, largest, shape, signs} from "./maps.js";
import {brief, count, number} from "./numbers.js";

const WIDTH = 1120;
const HEIGHT = 560;
const TOP = 44;
const DIGIT = {x: 6, y: 190, side: 172};
const FIRST = 345;
const MAPS = 104; // how far before their neurons the maps stand
const LAST = 960;
const NEAR = 5; // how close to a line counts as on it

export class NetworkView {
  /** Draws what does not change; `layers` are a frame's. `on` has hover(target) and choose(target). */
  constructor(network, layers, on) {
    this.network = network;
    this.layers = layers;
    this.on = on;
    this.columns = layers.map((layer, l) => columnOf(layer, l, layers.length));
    this.edges = layers.map((layer, l) => (l ? this.#edgesOf(l) : []));
    this.maps = this.columns[0].map(({x, y}) => mapAt(x, y, this.columns[0].gap));
    this.neurons = this.columns.map((column, l) => column.map((place, j) => this.#neuronAt(l, j, place)));
    this.digit = svg("image", {...box(DIGIT), class: "pixels"});
    this.overlay = svg("image", {...box(DIGIT), class: "pixels"});
    this.strips = svg("g", {class: "strips"});
    this.ring = svg("circle", {class: "ring", r: 0});
    this.dot = svg("rect", {class: "dot", width: 0, height: 0});
    this.pulses = svg("g", {"aria-hidden": "true"});
    this.legend = svg("g", {class: "legend", transform: `translate(${FIRST - MAPS - 15}, ${HEIGHT - 8})`});
    this.mapsTitle = svg("text", {class: "title end", x: this.columns[0][0].x - MAPS + 34, y: TOP - 26});
    this.digitTitle = svg("text", {class: "title start", x: DIGIT.x, y: DIGIT.y - 10});
    this.overlayTitle = svg("text", {class: "title start", x: DIGIT.x, y: DIGIT.y + DIGIT.side + 20}, "and what is wished of it");
    this.element = this.#assembled();
  }

  /** Shows a frame's example as a scene says. */
  update(frame, scene, view) {
    const {example} = view;
    this.view = view;
    this.#showPixels(frame, scene, example);
    const colour = signs(Math.max(...scene.maps.map(largest)));
    scene.maps.forEach((values, j) => this.maps[j].setAttribute("href", draw(values, colour).toDataURL()));
    this.mapsTitle.textContent = {weights: "weights", change: "desired change", pixels: "asked of pixels"}[view.maps];
    frame.layers.forEach((_, l) => this.#showNeurons(frame, scene, l, example));
    const behind = scene.strips ? scene.strips.layer + 1 : 0;
    const scale = largest(scene.edges.flatMap((values, l) => (values && l && l !== behind ? [largest(values)] : [])));
    frame.layers.forEach((_, l) => this.#showEdges(l, scene.edges[l], l === behind ? Infinity : scale));
    this.#showStrips(scene.strips);
    this.#showLegend(scale);
    this.mark(view.pin ?? {l: view.layer, j: view.neuron});
  }

  /** Rings a neuron, or puts a dot where a pixel's weight is. */
  mark(target) {
    const {l, j, k} = target;
    const {x, y} = this.columns[l][j];
    set(this.ring, {cx: x, cy: y, r: this.columns[l].radius + 3});
    this.#each((line, at) => line.classList.toggle("marked", at.l === l && at.j === j && at.k === k));
    const side = l === 0 && k !== undefined ? this.#mapSide() / shape(this.network.sizes[0])[0] : 0;
    const [width] = shape(this.network.sizes[0]);
    const corner = side && this.maps[j];
    set(this.dot, {
      width: side && Math.max(side, 2),
      height: side && Math.max(side, 2),
      x: side && Number(corner.getAttribute("x")) + (k % width) * side,
      y: side && Number(corner.getAttribute("y")) + Math.floor(k / width) * side,
    });
  }

  /** Lets the strongest wishes run along their lines, from right to left, or activations from left to right. */
  pulse(values, backwards) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    this.pulses.replaceChildren();
    const moving = [];
    this.#each((line, {l, j, k}) => {
      const value = values[l]?.[j * this.layers[l].ins + k] ?? 0;
      if (value) moving.push({line, value, l});
    });
    moving.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    for (const {line, value, l} of moving.slice(0, 60)) this.#run(line, value, l, backwards);
  }

  #run(line, value, l, backwards) {
    const [x1, y1, x2, y2] = ["x1", "y1", "x2", "y2"].map((name) => line.getAttribute(name));
    const [from, to] = backwards ? [[x2, y2], [x1, y1]] : [[x1, y1], [x2, y2]];
    const dot = svg("circle", {r: 3.2, fill: css(wish(Math.sign(value)))});
    this.pulses.append(dot);
    const place = ([x, y]) => ({transform: `translate(${x}px, ${y}px)`});
    const delay = backwards ? 0 : 250 * (l - 1);
    dot.animate([place(from), place(to)], {duration: 600, delay, easing: "ease-in-out", fill: "backwards"}).onfinish = () =>
      dot.remove();
  }

  #assembled() {
    const {network, layers} = this;
    const titles = this.columns.map((column, l) => {
      const name = l === layers.length - 1 ? "outputs" : `hidden layer ${l + 1}`;
      return svg("text", {class: "title", x: column[0].x, y: TOP - 26}, name);
    });
    const hidden = layers.flatMap(({all, out}, l) => {
      if (all === out) return [];
      const text = `and ${count(all - out)} more`;
      return [svg("text", {class: "title", x: this.columns[l][0].x, y: HEIGHT - 22}, text)];
    });
    const fan = this.maps.map((map) => fanTo(map, this.#mapSide()));
    const element = svg(
      "svg",
      {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "network", role: "group", "aria-label": `A network of ${network.sizes.join(", ")} neurons`},
      ...[...fan, this.digit, this.overlay, this.digitTitle, this.overlayTitle, ...this.maps, this.mapsTitle, ...titles, ...hidden],
      ...[...this.edges.flat(), this.pulses, this.strips, this.ring, ...this.neurons.flat(), this.dot, this.legend],
    );
    element.addEventListener("pointermove", (event) => this.on.hover(this.#at(event)));
    element.addEventListener("pointerleave", () => this.on.hover(null));
    element.addEventListener("click", (event) => {
      const target = this.#at(event);
      if (target) this.on.choose(target);
    });
    return element;
  }

  #edgesOf(l) {
    const lines = [];
    this.columns[l].forEach((to, j) => {
      this.columns[l - 1].forEach((from, k) => {
        lines.push(svg("line", {class: "edge", x1: from.x, y1: from.y, x2: to.x, y2: to.y, "data-weight": `${l}.${j}.${k}`}));
      });
    });
    return lines;
  }

  #neuronAt(l, j, {x, y}) {
    const {radius} = this.columns[l];
    const last = l === this.layers.length - 1;
    const circle = svg("circle", {r: radius});
    const text = svg("text", {class: "value", dy: "0.35em"});
    const arrow = svg("path", {class: "arrow", d: "M-6,0 L0,-17 L6,0 Z", transform: `translate(${radius + 11}, 0)`});
    const label = svg("text", {class: "label", x: radius + 26, dy: "0.35em"});
    const parts = last ? [circle, text, arrow, label] : [circle, text, arrow];
    const group = svg(
      "g",
      {class: "neuron", transform: `translate(${x}, ${y})`, "data-neuron": `${l}.${j}`, tabindex: -1, role: "button"},
      ...parts,
    );
    group.addEventListener("keydown", (event) => this.#walk(event, l, j));
    group.addEventListener("focus", () => this.on.hover({l, j}));
    group.addEventListener("blur", () => this.on.hover(null));
    return group;
  }

  /** Arrow keys lead from neuron to neuron, Enter chooses one. */
  #walk(event, l, j) {
    const steps = {ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0]};
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") this.on.choose({l, j});
    else if (steps[event.key]) {
      const [across, down] = steps[event.key];
      const column = this.neurons[Math.max(0, Math.min(this.neurons.length - 1, l + across))];
      column[Math.max(0, Math.min(column.length - 1, j + down))].focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #showPixels(frame, {pixels}, example) {
    this.digit.setAttribute("href", draw(frame.input(example), greys(this.network.range)).toDataURL());
    this.overlay.setAttribute("href", pixels ? veil(pixels).toDataURL() : "");
    for (const part of [this.overlay, this.overlayTitle]) part.classList.toggle("hidden", !pixels);
    this.digitTitle.textContent = `${count(this.network.sizes[0])} pixels: a ${frame.labels[example]}`;
  }

  #showNeurons(frame, scene, l, example) {
    const activations = frame.row(l, "activations", example);
    const range = rangeOf(activations, this.network.functions[l]);
    const scale = scene.arrows[l] && largest(scene.arrows[l]);
    this.neurons[l].forEach((group, j) => {
      const [circle, text, arrow, label] = group.children;
      const shade = (activations[j] - range[0]) / (range[1] - range[0]);
      circle.style.fill = css(ink(shade));
      text.style.fill = shade > 0.55 ? "#000" : "#fff";
      text.textContent = this.columns[l].radius >= 10 ? brief(activations[j]) : "";
      text.style.fontSize = `${this.columns[l].radius * (text.textContent.length > 4 ? 0.66 : 0.8)}px`;
      const nudge = scene.arrows[l]?.[j] ?? 0;
      showArrow(arrow, scale ? nudge / scale : 0);
      if (label) this.#label(label, frame, example, j);
      const {view} = this;
      group.setAttribute("tabindex", l === view.layer && j === view.neuron ? 0 : -1);
      const asked = nudge ? `, wished to change by ${number(nudge)}` : "";
      group.setAttribute("aria-label", `${neuronName(this.network, l, j)}: ${number(activations[j])}${asked}`);
    });
  }

  #label(label, frame, example, j) {
    const wanted = frame.labels[example] === j;
    const given = frame.answer(example) === j;
    label.textContent = `${j}${wanted ? " ← wanted" : given ? " ← answered" : ""}`;
    label.classList.toggle("wanted", wanted);
  }

  /** Lines as thick as their values; of an infinite scale, as thin as they can be. */
  #showEdges(l, values, scale) {
    this.edges[l].forEach((line, place) => {
      const value = values ? values[place] : 0;
      const t = Math.min(1, Math.abs(value) / (scale || 1)) || 0;
      line.style.stroke = css(wish(Math.sign(value)));
      line.style.strokeWidth = 0.3 + 3.9 * t ** 1.3;
      line.style.opacity = values ? 0.05 + 0.95 * t ** 1.2 : 0;
      line.style.strokeDasharray = value < 0 ? "5 3" : "";
    });
  }

  /** Beside each neuron a square for each wish of the layer after it, before they are added up. */
  #showStrips(strips) {
    this.strips.replaceChildren();
    if (!strips) return;
    const {layer, each} = strips;
    const scale = largest(each.flatMap((wishes) => [largest(wishes)]));
    const side = Math.min(11, (this.columns[layer].gap - 4) / 1.2, 150 / each.length);
    const {x: start, y: top} = this.columns[layer][0];
    const title = layer + 2 === this.layers.length ? "each output’s wish" : "each neuron’s wish";
    this.strips.append(svg("text", {class: "title start", x: start + this.columns[layer].radius + 24, y: top - 12}, title));
    this.columns[layer].forEach(({x, y}, k) => {
      each.forEach((wishes, j) => {
        const left = x + this.columns[layer].radius + 24 + j * side;
        const title = svg("title", {}, `${neuronName(this.network, layer + 1, j)} wishes ${number(wishes[k])}`);
        const fill = css(strong(wishes[k] / (scale || 1)));
        this.strips.append(svg("rect", {x: left, y: y - side / 2, width: side - 1, height: side - 1, style: `fill: ${fill}`}, title));
      });
    });
  }

  #showLegend(scale) {
    const line = (x, t) =>
      svg("line", {class: "edge", x1: x, x2: x + 34, y1: -4, y2: -4, style: `stroke: ${css(wish(t))}; stroke-width: 4; ${t < 0 ? "stroke-dasharray: 5 3" : ""}`});
    const text = (x, words) => svg("text", {x}, words);
    this.legend.replaceChildren(
      ...[line(0, 1), text(42, "more, positive"), line(164, -1), text(206, "less, negative")],
      text(328, scale ? `the thickest line is ${number(scale)}` : ""),
    );
  }

  #mapSide = () => Math.min(30, this.columns[0].gap - 2);

  #each(call) {
    this.edges.forEach((lines, l) => {
      const {ins} = this.layers[l];
      lines.forEach((line, place) => call(line, {l, j: Math.floor(place / ins), k: place % ins}));
    });
  }

  /** What is under the pointer: a neuron, a pixel's weight, or the nearest line that can be seen. */
  #at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.element.getScreenCTM().inverse());
    return this.#neuronUnder(point) ?? this.#pixelUnder(point) ?? this.#lineUnder(point);
  }

  #neuronUnder({x, y}) {
    for (const [l, column] of this.columns.entries()) {
      const j = column.findIndex((at) => Math.hypot(at.x - x, at.y - y) <= column.radius + 2);
      if (j >= 0) return {l, j};
    }
    return null;
  }

  #pixelUnder({x, y}) {
    const side = this.#mapSide();
    const [width, height] = shape(this.network.sizes[0]);
    for (const [j, map] of this.maps.entries()) {
      const column = Math.floor(((x - map.getAttribute("x")) / side) * width);
      const row = Math.floor(((y - map.getAttribute("y")) / side) * height);
      const k = row * width + column;
      if (column >= 0 && column < width && row >= 0 && row < height && k < this.network.sizes[0]) return {l: 0, j, k};
    }
    return null;
  }

  #lineUnder({x, y}) {
    let found = null;
    let nearest = NEAR;
    this.#each((line, at) => {
      const [from, to] = [this.columns[at.l - 1][at.k], this.columns[at.l][at.j]];
      if (x <= from.x || x >= to.x || line.style.opacity < 0.02) return;
      const distance = Math.abs(from.y + ((to.y - from.y) * (x - from.x)) / (to.x - from.x) - y);
      if (distance < nearest) [nearest, found] = [distance, at];
    });
    return found;
  }
}

/** Where a layer's neurons stand: places with a `radius` and a `gap`. */
function columnOf({out}, l, layers) {
  const x = layers === 1 ? (FIRST + LAST) / 2 : FIRST + ((LAST - FIRST) * l) / (layers - 1);
  const gap = Math.min(44, (HEIGHT - TOP - 44) / out);
  const middle = (TOP + HEIGHT - 40) / 2;
  const places = Array.from({length: out}, (_, j) => ({x, y: middle + (j - (out - 1) / 2) * gap}));
  return Object.assign(places, {gap, radius: Math.min(14, gap * 0.42)});
}

function mapAt(x, y, gap) {
  const side = Math.min(30, gap - 2);
  return svg("image", {class: "pixels map", x: x - MAPS - side / 2, y: y - side / 2, width: side, height: side});
}

function fanTo(map, side) {
  const y = Number(map.getAttribute("y")) + side / 2;
  const from = {x1: DIGIT.x + DIGIT.side, y1: DIGIT.y + DIGIT.side / 2};
  return svg("line", {class: "fan", ...from, x2: map.getAttribute("x"), y2: y});
}

const box = ({x, y, side}) => ({x, y, width: side, height: side});

/** Wishes over a digit: the stronger, the less of it shows through. */
function veil(values) {
  const canvas = draw(values, (value) => wish(Math.sign(value)));
  const context = canvas.getContext("2d");
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const scale = largest(values) || 1;
  values.forEach((value, place) => (image.data[4 * place + 3] = 255 * Math.abs(value / scale) ** 0.6));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Up for more and down for less, as long as the wish is large. */
function showArrow(arrow, t) {
  arrow.style.scale = `1 ${Math.abs(t) < 0.02 ? 0 : Math.sign(t) * (0.25 + 0.75 * Math.abs(t))}`;
  arrow.style.fill = css(wish(Math.sign(t)));
}

/** The activations that are black and white. */
function rangeOf(activations, name) {
  if (name === "sigmoid") return [0, 1];
  if (name === "tanh") return [-1, 1];
  const most = Math.max(1, largest(activations));
  return activations.some((a) => a < 0) ? [-most, most] : [0, most];
}
