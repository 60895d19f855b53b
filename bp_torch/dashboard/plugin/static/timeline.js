// The slider over training: a tick for each recorded step, below the curve of the mini-batch's cost.

import {html, set, svg} from "./dom.js";
import {count, number} from "./numbers.js";
import {Player} from "./player.js";

const HEIGHT = 84;
const SIDES = 14;
const FLOOR = 58; // y of cost 0
const PLAY_EVERY = 350; // milliseconds

export class Timeline {
  /** `on` has step(number) and spacing(linear). */
  constructor(on) {
    this.on = on;
    this.steps = [];
    this.costs = [];
    this.width = 0;
    this.dragging = false;
    this.curve = svg("path", {class: "curve"});
    this.area = svg("path", {class: "area"});
    this.marks = svg("g");
    this.handle = svg(
      "g",
      {class: "handle"},
      svg("line", {y1: 14, y2: FLOOR + 4}),
      svg("circle", {r: 6, cy: FLOOR + 4}),
    );
    this.drawing = svg("svg", {height: HEIGHT}, this.area, this.curve, this.marks, this.handle);
    this.slider = html(
      "div",
      {
        class: "slider",
        role: "slider",
        tabindex: 0,
        "aria-label": "Step of training",
        onkeydown: (event) => this.#key(event),
      },
      this.drawing,
    );
    this.status = html("output", {class: "step"});
    this.player = new Player("training", PLAY_EVERY, {
      begin: () => this.step === this.steps.at(-1) && this.move(-Infinity),
      next: () => this.move(1) === this.steps.length - 1,
    });
    this.spacing = html("button", {onclick: () => on.spacing(!this.linear)});
    const button = (text, title, move) =>
      html("button", {title, "aria-label": title, onclick: () => this.move(move)}, text);
    this.element = html(
      "div",
      {class: "timeline"},
      html(
        "div",
        {class: "controls"},
        this.player.element,
        button("|◀", "First step", -Infinity),
        button("◀", "Previous step (Shift ←)", -1),
        button("▶", "Next step (Shift →)", 1),
        button("▶|", "Last step", Infinity),
        this.spacing,
        this.status,
      ),
      this.slider,
    );
    this.#listen();
  }

  /** Shows steps, their costs and the current step; `total` is the number of steps of the run. */
  update(steps, costs, step, linear, total) {
    Object.assign(this, {steps, costs, step, linear});
    this.spacing.textContent = linear ? "Linear" : "Log-spaced";
    this.spacing.title = `Steps are spaced ${linear ? "evenly" : "by their logarithm"}. Click to change.`;
    const cost = costs.find(([recorded]) => recorded === step)?.[1];
    const text = `step ${count(step)} of ${count(total)}${step ? "" : " (not trained yet)"}, cost ${number(cost)}`;
    this.status.textContent = `${text} · recorded step ${steps.indexOf(step) + 1} of ${steps.length}`;
    set(this.slider, {
      "aria-valuemin": steps[0],
      "aria-valuemax": steps.at(-1),
      "aria-valuenow": step,
      "aria-valuetext": text,
    });
    this.#draw();
  }

  /** Moves by a number of recorded steps, back if negative; returns the new index. */
  move(by) {
    const place = Math.max(0, Math.min(this.steps.length - 1, this.steps.indexOf(this.step) + by));
    if (this.steps[place] !== this.step) this.#choose(this.steps[place]);
    return place;
  }

  /** Whether steps are passing, by playing or dragging. */
  get isMoving() {
    return this.dragging || this.player.isPlaying;
  }

  #listen() {
    const chosen = ({clientX}) => this.#nearest(clientX - this.drawing.getBoundingClientRect().left);
    this.slider.addEventListener("pointerdown", (event) => {
      this.dragging = true;
      this.slider.setPointerCapture(event.pointerId);
      this.player.stop();
      this.#choose(chosen(event));
    });
    this.slider.addEventListener("pointermove", (event) => this.dragging && this.#choose(chosen(event)));
    for (const end of ["pointerup", "pointercancel"]) this.slider.addEventListener(end, () => (this.dragging = false));
    new ResizeObserver(([{contentRect}]) => {
      this.width = contentRect.width; // reading the size at each step would lay out the whole page
      this.#draw();
    }).observe(this.slider);
  }

  /** Sets the step at once, so that the next move starts from it even before its frame arrives. */
  #choose(step) {
    this.step = step;
    this.on.step(step);
  }

  #key(event) {
    const moves = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in moves)) return;
    this.move(moves[event.key]);
    event.preventDefault();
    event.stopPropagation();
  }

  #x(step) {
    const width = this.width - 2 * SIDES;
    const [first, last] = [this.steps[0], this.steps.at(-1)];
    const t = this.linear
      ? (step - first) / (last - first)
      : Math.log((step + 1) / (first + 1)) / Math.log((last + 1) / (first + 1));
    return SIDES + (width * t || 0);
  }

  #nearest(x) {
    return this.steps.reduce((best, step) => (Math.abs(this.#x(step) - x) < Math.abs(this.#x(best) - x) ? step : best));
  }

  #draw() {
    if (!this.steps.length || !this.width) return;
    const points = this.costs.filter(([, cost]) => Number.isFinite(cost));
    const most = Math.max(...points.map(([, cost]) => cost)) || 1;
    const line = points.map(([step, cost]) => `${this.#x(step)},${FLOOR - (FLOOR - 12) * (cost / most)}`).join(" L");
    this.curve.setAttribute("d", line && `M${line}`);
    this.area.setAttribute(
      "d",
      line && `M${this.#x(points[0][0])},${FLOOR} L${line} L${this.#x(points.at(-1)[0])},${FLOOR} Z`,
    );
    const ticks = this.steps.map((step) =>
      svg("line", {class: "tick", x1: this.#x(step), x2: this.#x(step), y1: FLOOR, y2: FLOOR + 7}),
    );
    const top = svg(
      "text",
      {x: this.width - SIDES, y: 10, class: "end"},
      `cost of the mini-batch, up to ${number(most)}`,
    );
    this.marks.replaceChildren(...ticks, ...this.#numbers(), top);
    this.handle.setAttribute("transform", `translate(${this.#x(this.step)}, 0)`);
  }

  /** The numbers below the ticks, as many as fit. */
  #numbers() {
    const places = this.steps.map((step) => [this.#x(step), step]);
    const [end] = places.splice(-1);
    let free = -Infinity;
    const shown = places.filter(([x]) => x > free && x < end[0] - 60 && (free = x + 46));
    return [...shown, end].map(([x, step]) =>
      svg("text", {x, y: HEIGHT - 5, class: step === end[1] ? "end" : "middle"}, count(step)),
    );
  }
}
