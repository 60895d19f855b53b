// Maps of a value at each pixel, such as a digit, a neuron's weights, or their nudges.

import {divergingStrong, grey} from "./colours.js";

const SHADES = 127; // of either sign

/** How the inputs lie in a picture: [width, height], (28, 28) for MNIST. */
export function shape(inputs) {
  const width = Math.ceil(Math.sqrt(inputs));
  return [width, Math.ceil(inputs / width)];
}

/** A canvas that shows each value as a pixel. */
export function draw(values, colour, [width, height] = shape(values.length)) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  values.forEach((value, place) => image.data.set([...colour(value), 255], 4 * place));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Greys from the lowest input to the highest. */
export const greys = (low, high) => (value) => grey((value - low) / (high - low || 1));

/** Colours symmetric around 0, the largest size in full; mixed once, and not for each pixel. */
export function divergingScale(largest) {
  const palette = Array.from({length: 2 * SHADES + 1}, (_, i) => divergingStrong(i / SHADES - 1));
  return (value) => palette[Math.round((value / (largest || 1) + 1) * SHADES)] ?? palette[SHADES];
}

/** The largest size among the values. */
export function largest(values) {
  let found = 0;
  for (const value of values) if (Math.abs(value) > found && Number.isFinite(value)) found = Math.abs(value);
  return found;
}
