// All colours with a meaning: blue for more and orange for less, which colour-blind readers can distinguish. Those of the
// light theme are the colours of bp_torch/inspection/figures.py.

const THEMES = {
  light: {paper: "#ffffff", more: "#0072b2", less: "#d55e00"},
  dark: {paper: "#262626", more: "#56b4e9", less: "#f0863c"},
};
let theme = parsed(THEMES.light);

/** Gives page and pictures the colours of a theme, "light" or "dark"; style.css has them as var(--more) and so on. */
export function setTheme(name) {
  const {dataset, style} = document.documentElement;
  dataset.theme = name;
  for (const [role, colour] of Object.entries(THEMES[name])) style.setProperty(`--${role}`, colour);
  theme = parsed(THEMES[name]);
}

/** From less, −1, over the paper's own colour, 0, to more, 1: [r, g, b]. */
export function diverging(t) {
  const {paper, more, less} = theme;
  return mix(paper, t < 0 ? less : more, Math.min(1, Math.abs(t)) || 0);
}

/** The same, with what is weak made easier to see. */
export const divergingStrong = (t) => diverging(Math.sign(t) * Math.abs(t) ** 0.6);

/** From black, 0, to white, 1. */
export const grey = (t) => mix([0, 0, 0], [255, 255, 255], Math.max(0, Math.min(1, t)) || 0);

export const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

function mix(from, to, t) {
  return from.map((channel, i) => Math.round(channel + (to[i] - channel) * t));
}

function parsed(colours) {
  const channels = (colour) => [1, 3, 5].map((i) => Number.parseInt(colour.slice(i, i + 2), 16));
  return Object.fromEntries(Object.entries(colours).map(([role, colour]) => [role, channels(colour)]));
}
