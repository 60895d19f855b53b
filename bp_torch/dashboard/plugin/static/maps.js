// Draws a value for each pixel, such as a digit, the weights of a neuron, or their nudges.

import {divergingStrong, grey} from "./colours.js";

const SHADES = 127; // of each sign

/** The width and height of the inputs as a picture, [28, 28] for MNIST. */
export function shape(inputs) {
  const width = Math.ceil(Math.sqrt(inputs));
  return [width, Math.ceil(inputs / width)];
}

/** A canvas with a pixel for each value. */
export function draw(values, colour, [width, height] = shape(values.length)) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  values.forEach((value, place) => image.data.set([...colour(value), 255], 4 * place));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A grey scale from the lowest input to the highest. */
export const greys = (low, high) => (value) => grey((value - low) / (high - low || 1));

/** A colour scale symmetric around 0, from a palette that is mixed once. */
export function divergingScale(largest) {
  const palette = Array.from({length: 2 * SHADES + 1}, (_, i) => divergingStrong(i / SHADES - 1));
  return (value) => palette[Math.round((value / (largest || 1) + 1) * SHADES)] ?? palette[SHADES];
}

/** The largest magnitude of the finite values. */
export function largest(values) {
  let found = 0;
  for (const value of values) if (Math.abs(value) > found && Number.isFinite(value)) found = Math.abs(value);
  return found;
}
