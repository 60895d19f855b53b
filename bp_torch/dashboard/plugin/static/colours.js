// Blue for more and orange for less, which colour-blind eyes tell apart; activations as brightness.

const THEMES = {
  light: {paper: [255, 255, 255], more: [0, 114, 178], less: [213, 94, 0]},
  dark: {paper: [38, 38, 38], more: [86, 180, 233], less: [240, 134, 60]},
};

const theme = () => THEMES[document.documentElement.dataset.theme] ?? THEMES.light;

/** From less, −1, over the paper's own colour, 0, to more, 1: [r, g, b]. */
export function wish(t) {
  const {paper, more, less} = theme();
  return mix(paper, t < 0 ? less : more, Math.min(1, Math.abs(t)) || 0);
}

/** The same, with what is weak made easier to see. */
export const strong = (t) => wish(Math.sign(t) * Math.abs(t) ** 0.6);

/** From black, 0, to white, 1. */
export const ink = (t) => mix([0, 0, 0], [255, 255, 255], Math.max(0, Math.min(1, t)) || 0);

export const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

function mix(from, to, t) {
  return from.map((channel, i) => Math.round(channel + (to[i] - channel) * t));
}
