// The curves of a pinned weight through training: its value, and its average nudge at each recorded step.

import {html, svg} from "./dom.js";
import {largest} from "./maps.js";
import {number, signed} from "./numbers.js";

const WIDTH = 360;
const HEIGHT = 70;
const MOST_FRAMES = 200;

/** The steps of the curves: evenly thinned if there are many, the current one included. */
export function historySteps(steps, current) {
  const every = Math.ceil(steps.length / MOST_FRAMES);
  return steps.filter((step, place) => place % every === 0 || step === current);
}

/** The curves of a weight over frames, of which some may be null; `place` is the index of the current one. */
export function historyBox(frames, {l, j, k}, place) {
  const known = frames.map((frame, i) => [i, frame]).filter(([, frame]) => frame);
  const at = (kind) => known.map(([i, {layers}]) => [i, layers[l][kind]?.[j * layers[l].ins + k] ?? 0]);
  const nudges = at("weightGradient").map(([i, gradient]) => [i, -gradient]);
  return html(
    "div",
    {class: "follow"},
    ...row("its value", at("weight"), frames.length, place, number),
    ...row("the average nudge", nudges, frames.length, place, signed),
  );
}

function row(name, points, count, place, shown) {
  const current = points.find(([i]) => i === place)?.[1];
  const text = html("p", {}, `${name}: `, html("b", {}, current === undefined ? "…" : shown(current)));
  return [text, curve(points, count, place, `${name} at each recorded step`)];
}

/** A curve around zero, with equal distances between recorded steps. */
function curve(points, count, place, label) {
  const scale = largest(points.map(([, value]) => value)) || 1;
  const x = (i) => (WIDTH * i) / Math.max(1, count - 1);
  const y = (value) => HEIGHT / 2 - (HEIGHT / 2 - 4) * (value / scale);
  const line = points.filter(([, value]) => Number.isFinite(value)).map(([i, value]) => `${x(i)},${y(value)}`);
  return svg(
    "svg",
    {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "xMinYMid", role: "img", "aria-label": label},
    svg("line", {class: "zero", x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2}),
    svg("path", {class: "curve", d: line.length ? `M${line.join(" L")}` : ""}),
    svg("line", {class: "here", x1: x(place), x2: x(place), y1: 0, y2: HEIGHT}),
    svg("text", {x: 2, y: 10}, number(scale)),
    svg("text", {x: 2, y: HEIGHT - 2}, number(-scale)),
  );
}
