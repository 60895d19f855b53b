// The lecture's table: a row for each of a neuron's weights, a column for each example of the mini-batch, and the mean.
// Some columns have numbers. A strip next to them shows all columns in colour; a click there chooses the columns.

import {neuronName} from "./chain.js";
import {html} from "./dom.js";
import {draw, greys, largest, divergingScale} from "./maps.js";
import {count, number, power} from "./numbers.js";
import {nudgeCell} from "./panel.js";

const MOST_ROWS = 17;
const COLUMNS = 6;

/** Every example's nudges of a neuron's weights and bias, and their mean. */
export function averageTable(frame, l, j, column, change) {
  const name = neuronName(frame.network, l, j);
  if (!frame.learns(l))
    return [html("p", {}, `The weights and bias of ${name} are frozen. There is nothing to average.`)];
  const rows = rowsOf(frame, l, j);
  const unit = unitOf(rows);
  const first = Math.max(0, Math.min(frame.miniBatch.length - COLUMNS, column));
  return [
    html("h3", {}, `Nudges of the weights of ${name}, in ${unit.name}`),
    html("table", {class: "average"}, headOf(frame, first, change), bodyOf(rows, unit.size, first, change)),
    html("p", {class: "note"}, agreementNote(frame, rows), remainderNote(frame, l, rows)),
  ];
}

function headOf(frame, first, change) {
  const examples = frame.miniBatch.length;
  const move = (text, by, name) => {
    const attributes = {"data-key": name, "aria-label": name, title: name};
    return html("button", {...attributes, onclick: () => change({column: first + by})}, text);
  };
  const [before, after] = [move("◀", -COLUMNS, "Previous columns"), move("▶", COLUMNS, "Next columns")];
  const digits = Array.from({length: Math.min(COLUMNS, examples)}, (_, i) => heading(frame, first + i, change));
  const all = html("th", {scope: "col", class: "all"}, before, ` all ${examples} `, after);
  const mean = html("th", {scope: "col", class: "mean"}, "mean");
  return html("thead", {}, html("tr", {}, html("td"), ...digits, all, mean));
}

function bodyOf(rows, unit, first, change) {
  const scale = largest(rows.map(({nudges}) => largest(nudges)));
  const means = largest(rows.map(({mean}) => mean));
  const shown = (value, most) => nudgeCell(value, most, hundredths(value / unit));
  const strip = stripOf(rows, scale, first, (n) => change({column: n - COLUMNS / 2}));
  const spanning = html("td", {class: "strip", rowspan: rows.length}, strip);
  const body = rows.map(({name, nudges, mean}, row) => {
    const numbers = nudges.slice(first, first + COLUMNS).map((value) => shown(value, scale));
    return html("tr", {}, html("th", {scope: "row"}, name), ...numbers, row ? "" : spanning, shown(mean, means));
  });
  return html("tbody", {}, ...body);
}

/** Rows for the bias and the weights with the largest means: the nudge by each example, and the mean. */
function rowsOf(frame, l, j) {
  const {miniBatch, layers} = frame;
  const {ins, biasGradient, weightGradient} = layers[l];
  const whole = miniBatch.length === frame.examples;
  const ofSum = miniBatch.map((example) => frame.sumNudges(l, example)[j]);
  const inputs = miniBatch.map((example) => frame.before(l, example));
  const rowOf = (name, nudges, applied) => ({name, nudges, applied, mean: whole ? meanOf(nudges) : applied});
  const bias = biasGradient ? [rowOf("bias", ofSum, -biasGradient[j])] : [];
  if (!weightGradient) return bias;
  const applied = frame.averageNudges(l, j);
  const places = [...Array(ins).keys()];
  const chosen =
    ins < MOST_ROWS
      ? places
      : places.sort((a, b) => Math.abs(applied[b]) - Math.abs(applied[a])).slice(0, MOST_ROWS - 1);
  const weights = chosen.map((k) =>
    rowOf(
      l ? `w ${k}` : `pixel ${k}`,
      ofSum.map((nudge, n) => nudge * inputs[n][k]),
      applied[k],
    ),
  );
  return [...bias, ...weights];
}

/** With two decimals and a true minus sign. */
const hundredths = (x) => (Math.abs(x) < 0.005 ? "0.00" : x.toFixed(2).replace("-", "−"));

const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The power of ten of the largest mean. */
function unitOf(rows) {
  const most = largest(rows.map(({mean}) => mean)) || 1;
  const exponent = Math.floor(Math.log10(most));
  return {size: 10 ** exponent, name: `units of ${power(exponent)}`};
}

/** All columns in colour, with a box around those that have numbers; a click moves it. */
function stripOf(rows, scale, first, choose) {
  const examples = rows[0].nudges.length;
  const values = rows.flatMap(({nudges}) => nudges);
  const canvas = draw(values, divergingScale(scale), [examples, rows.length]);
  const part = 100 / examples;
  const box = html("span", {
    class: "box-around",
    style: `left: ${first * part}%; width: ${Math.min(COLUMNS, examples) * part}%`,
  });
  const at = (event) => {
    const {left, width} = canvas.getBoundingClientRect();
    choose(Math.floor(((event.clientX - left) / width) * examples));
  };
  return html("div", {onclick: at, title: "A column for each example; click to see its numbers"}, canvas, box);
}

/** The digit as a button that chooses its example. */
function heading(frame, n, change) {
  const example = frame.probes + n;
  const name = `example ${n} of the mini-batch, label ${frame.labels[example]}`;
  const canvas = draw(frame.input(example), greys(frame.low, frame.high));
  return html(
    "th",
    {scope: "col"},
    html(
      "button",
      {"data-key": name, title: name, "aria-label": name, onclick: () => change({example: `batch-${n}`})},
      canvas,
    ),
  );
}

/** Whether the means agree with the gradient that SGD applied. */
function agreementNote(frame, rows) {
  if (frame.miniBatch.length < frame.examples)
    return `${frame.miniBatch.length} of ${count(frame.examples)} examples are shown; the mean is over all. `;
  const difference = largest(rows.map(({mean, applied}) => mean - applied));
  const most = largest(rows.map(({applied}) => applied));
  const relative = most ? difference / most : difference;
  const result = relative < 1e-4 ? "SGD applied these means, times the learning rate" : "SGD did NOT apply these means";
  return `${result}. The largest difference is ${number(relative, 2)} of the largest mean. `;
}

function remainderNote(frame, l, rows) {
  const {biasGradient, weightGradient} = frame.layers[l];
  const more = (weightGradient ? frame.network.sizes[l] : 0) + (biasGradient ? 1 : 0) - rows.length;
  return more > 0 ? `${count(more)} more weights are not shown.` : "";
}
