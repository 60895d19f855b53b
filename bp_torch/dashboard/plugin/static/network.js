// The picture of the network: the digit, a map for each first-layer neuron, the neurons, and the weights as lines.

import {layerName, neuronName} from "./chain.js";
import {css, diverging, grey} from "./colours.js";
import {set, svg, title} from "./dom.js";
import {DIGIT, Geometry, HEIGHT, TITLES, WIDTH} from "./geometry.js";
import {draw, greys, largest, divergingScale} from "./maps.js";
import {brief, count, number, signed} from "./numbers.js";
import {Contributions} from "./contributions.js";

const MAP_TITLES = {weights: "weights", change: "nudges of weights", pixels: "nudges of pixels"};
const MOST_PULSES = 60;

export class NetworkView {
  /** Draws what all frames share; `layers` are those of one frame. `on` has hover(target) and choose(target). */
  constructor(network, layers, on) {
    this.network = network;
    this.on = on;
    this.geometry = new Geometry(layers, network.sizes[0]);
    const {columns} = this.geometry;
    this.edges = layers.map((_, l) => this.geometry.weights(l).map((at) => this.#edge(at)));
    this.maps = columns[0].map((_, j) => svg("image", {class: "pixels map", ...this.geometry.map(j)}));
    this.neurons = columns.map((column, l) => column.map((place, j) => this.#neuron(l, j, place)));
    this.digit = svg("image", {class: "pixels", ...DIGIT});
    this.overlay = svg("image", {class: "pixels", ...DIGIT});
    this.contributions = new Contributions(network, this.geometry);
    this.ring = svg("circle", {class: "ring"});
    this.dot = svg("rect", {class: "dot"});
    this.pulses = svg("g", {"aria-hidden": "true"});
    this.legend = svg("g", {class: "legend", transform: `translate(${this.geometry.mapsX - 15}, ${HEIGHT - 8})`});
    this.mapsTitle = title("end", this.geometry.mapsX + 34, TITLES);
    this.digitTitle = title("start", DIGIT.x, DIGIT.y - 10);
    this.overlayTitle = title("start", DIGIT.x, DIGIT.y + DIGIT.height + 20, "nudges of its pixels");
    this.element = this.#assembled(layers);
  }

  /** Draws a scene of one example of a frame. */
  update(frame, scene, view) {
    this.view = view;
    this.#showPixels(frame, scene);
    const colour = divergingScale(Math.max(...scene.maps.map(largest)));
    scene.maps.forEach((values, j) => this.maps[j].setAttribute("href", draw(values, colour).toDataURL()));
    this.mapsTitle.textContent = MAP_TITLES[view.maps];
    frame.layers.forEach((_, l) => this.#showNeurons(frame, scene, l));
    const behind = scene.contributions ? scene.contributions.layer + 1 : 0; // its lines would hide the contributions
    const scale = largest(scene.edges.flatMap((values, l) => (values && l && l !== behind ? [largest(values)] : [])));
    frame.layers.forEach((_, l) => this.#showEdges(l, scene.edges[l], l === behind ? Infinity : scale));
    this.contributions.update(scene.contributions);
    this.#showLegend(scale);
    this.mark(view.target);
    this.element.querySelector(".pinned")?.classList.remove("pinned");
    if (view.pin) this.#edgeOf(view.pin)?.classList.add("pinned");
  }

  /** Rings a neuron, and highlights a weight's line or its pixel. */
  mark({l, j, k}) {
    const column = this.geometry.columns[l];
    set(this.ring, {cx: column[j].x, cy: column[j].y, r: column.radius + 3});
    this.element.querySelector(".marked")?.classList.remove("marked");
    const pixel = l === 0 && k !== undefined;
    if (pixel) set(this.dot, this.geometry.pixel(j, k));
    else if (k !== undefined) this.#edgeOf({l, j, k}).classList.add("marked");
    this.dot.classList.toggle("hidden", !pixel);
  }

  /** The line of a weight; weights of pixels have none. */
  #edgeOf({l, j, k}) {
    return this.edges[l][j * this.geometry.layers[l].ins + k];
  }

  /** Animates the strongest nudges along their lines from right to left, or activations from left to right. */
  pulse(values, backwards) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const moving = this.edges.flatMap((lines, l) =>
      lines.map((line, place) => ({line, l, value: values[l]?.[place] ?? 0})),
    );
    moving.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    this.pulses.replaceChildren();
    for (const {line, l, value} of moving.slice(0, MOST_PULSES)) if (value) this.#run(line, value, l, backwards);
  }

  #run(line, value, l, backwards) {
    const [x1, y1, x2, y2] = ["x1", "y1", "x2", "y2"].map((name) => line.getAttribute(name));
    const ends = [`translate(${x1}px, ${y1}px)`, `translate(${x2}px, ${y2}px)`];
    if (backwards) ends.reverse();
    const dot = svg("circle", {r: 3.2, fill: css(diverging(Math.sign(value)))});
    this.pulses.append(dot);
    const timing = {duration: 600, delay: backwards ? 0 : 250 * (l - 1), easing: "ease-in-out", fill: "backwards"};
    dot.animate(
      ends.map((transform) => ({transform})),
      timing,
    ).onfinish = () => dot.remove();
  }

  #assembled(layers) {
    const titles = layers.flatMap(({all, out}, l) => {
      const {x} = this.geometry.columns[l];
      const name = title("", x, TITLES, layerName(this.network, l));
      return all === out ? [name] : [name, title("", x, HEIGHT - 26, `and ${count(all - out)} more`)];
    });
    const pixels = [
      ...this.#fan(),
      this.digit,
      this.overlay,
      this.digitTitle,
      this.overlayTitle,
      ...this.maps,
      this.mapsTitle,
    ];
    const front = [
      ...titles,
      this.pulses,
      this.contributions.element,
      this.ring,
      ...this.neurons.flat(),
      this.dot,
      this.legend,
    ];
    const name = `A network of ${this.network.sizes.join(", ")} neurons`;
    const attributes = {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "network", role: "group", "aria-label": name};
    const listeners = {
      onpointermove: (event) => this.on.hover(this.#under(event)),
      onpointerleave: () => this.on.hover(null),
      onclick: (event) => {
        const target = this.#under(event);
        if (target) this.on.choose(target);
      },
    };
    return svg("svg", {...attributes, ...listeners}, ...pixels, ...this.edges.flat(), ...front);
  }

  #edge(at) {
    return svg("line", {class: "edge", ...this.geometry.line(at), "data-weight": `${at.l}.${at.j}.${at.k}`});
  }

  /** A line from the digit to each map. */
  #fan() {
    const from = {x1: DIGIT.x + DIGIT.width, y1: DIGIT.y + DIGIT.height / 2};
    return this.geometry.columns[0].map(({y}, j) =>
      svg("line", {class: "fan", ...from, x2: this.geometry.map(j).x, y2: y}),
    );
  }

  #neuron(l, j, {x, y}) {
    const {columns} = this.geometry;
    const {radius} = columns[l];
    const circle = svg("circle", {r: radius});
    const text = svg("text", {class: "value", dy: "0.35em"});
    const arrow = svg("path", {class: "arrow", d: "M-6,0 L0,-17 L6,0 Z", transform: `translate(${radius + 11}, 0)`});
    const label = l === columns.length - 1 ? [svg("text", {class: "label", x: radius + 26, dy: "0.35em"})] : [];
    const attributes = {
      class: "neuron",
      transform: `translate(${x}, ${y})`,
      "data-neuron": `${l}.${j}`,
      role: "button",
    };
    const listeners = {
      onkeydown: (event) => this.#moveFocus(event, l, j),
      onfocus: () => this.on.hover({l, j}),
      onblur: () => this.on.hover(null),
    };
    return svg("g", {...attributes, ...listeners}, circle, text, arrow, ...label);
  }

  /** Arrow keys move the focus from neuron to neuron, Enter chooses one. */
  #moveFocus(event, l, j) {
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    const steps = {ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0]};
    if (event.key === "Enter" || event.key === " ") this.on.choose({l, j});
    else if (steps[event.key]) {
      const [across, down] = steps[event.key];
      const column = this.neurons[l + across] ?? this.neurons[l];
      (column[Math.min(column.length - 1, j + down)] ?? column[0]).focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #showPixels(frame, {pixels}) {
    const {example} = this.view;
    this.digit.setAttribute("href", draw(frame.input(example), greys(...this.network.range)).toDataURL());
    this.overlay.setAttribute("href", pixels ? overlayImage(pixels).toDataURL() : "");
    for (const part of [this.overlay, this.overlayTitle]) part.classList.toggle("hidden", !pixels);
    this.digitTitle.textContent = `${count(this.network.sizes[0])} pixels, label ${frame.labels[example]}`;
  }

  #showNeurons(frame, {arrows}, l) {
    const activations = frame.row(l, "activations", this.view.example);
    const [black, white] = rangeOf(activations, this.network.functions[l]);
    const scale = arrows[l] ? largest(arrows[l]) || 1 : 1;
    this.neurons[l].forEach((group, j) => {
      const nudge = arrows[l]?.[j] ?? 0;
      const suffix = nudge ? `, nudge ${signed(nudge)}` : "";
      set(group, {
        tabindex: l === this.view.layer && j === this.view.neuron ? 0 : -1,
        "aria-label": `${neuronName(this.network, l, j)}: ${number(activations[j])}${suffix}`,
      });
      const [circle, text, arrow, label] = group.children;
      this.#showValue(
        circle,
        text,
        activations[j],
        (activations[j] - black) / (white - black),
        this.geometry.columns[l].radius,
      );
      showArrow(arrow, nudge / scale);
      if (label) this.#showLabel(label, frame, j);
    });
  }

  #showValue(circle, text, value, shade, radius) {
    circle.style.fill = css(grey(shade));
    text.textContent = radius >= 10 ? brief(value) : "";
    text.style.fill = shade > 0.46 ? "#000" : "#fff"; // the one with more contrast
    text.style.fontSize = `${radius * (text.textContent.length > 4 ? 0.7 : 0.85)}px`;
  }

  #showLabel(label, frame, j) {
    const {example} = this.view;
    const isTarget = frame.labels[example] === j;
    label.textContent = `${j}${isTarget ? " ← target" : frame.answer(example) === j ? " ← predicted" : ""}`;
    label.classList.toggle("target", isTarget);
  }

  /** Draws each line as thick as its value; thinnest if the scale is infinite. */
  #showEdges(l, values, scale) {
    this.edges[l].forEach((line, place) => {
      const value = values ? values[place] : 0;
      const t = Math.min(1, Math.abs(value) / (scale || 1)) || 0;
      line.style.stroke = css(diverging(Math.sign(value)));
      line.style.strokeWidth = 0.3 + 3.9 * t ** 1.3;
      line.style.opacity = value ? 0.05 + 0.95 * t ** 1.2 : 0;
      line.style.strokeDasharray = value < 0 ? "5 3" : "";
    });
  }

  #showLegend(scale) {
    const line = (x, sign) => {
      const dashes = sign < 0 ? "stroke-dasharray: 5 3" : "";
      return svg("line", {
        x1: x,
        x2: x + 34,
        y1: -4,
        y2: -4,
        style: `stroke: ${css(diverging(sign))}; stroke-width: 4; ${dashes}`,
      });
    };
    const text = (x, words) => svg("text", {x}, words);
    const thickest = scale ? `thickest line: ${number(scale)}` : "";
    this.legend.replaceChildren(
      line(0, 1),
      text(42, "more, positive"),
      line(164, -1),
      text(206, "less, negative"),
      text(328, thickest),
    );
  }

  #under({clientX, clientY}) {
    const point = new DOMPoint(clientX, clientY).matrixTransform(this.element.getScreenCTM().inverse());
    return this.geometry.at(point, (l, place) => this.edges[l][place].style.opacity > 0.02);
  }
}

/** Nudges to draw over a digit: the stronger, the more opaque. */
function overlayImage(values) {
  const canvas = draw(values, (value) => diverging(Math.sign(value)));
  const context = canvas.getContext("2d");
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const scale = largest(values) || 1;
  values.forEach((value, place) => (image.data[4 * place + 3] = 255 * Math.abs(value / scale) ** 0.6));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Up for more, down for less; its length is that of the nudge. */
function showArrow(arrow, t) {
  arrow.style.scale = `1 ${Math.abs(t) < 0.02 ? 0 : Math.sign(t) * (0.25 + 0.75 * Math.abs(t))}`;
  arrow.style.fill = css(diverging(Math.sign(t)));
}

/** The activations that are drawn black and white. */
function rangeOf(activations, name) {
  if (name === "sigmoid") return [0, 1];
  if (name === "tanh") return [-1, 1];
  const most = Math.max(1, largest(activations));
  return activations.some((a) => a < 0) ? [-most, most] : [0, most];
}
