// Numbers as text: three significant digits, with a true minus sign.

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** Such as 0.128, −1.78, 3.1·10⁻⁵, 0, ∞ or NaN. */
export function number(x, digits = 3) {
  if (x === undefined) return "unknown";
  if (x === null) return "not finite"; // JSON has no NaN or infinity
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  const text = size === 0 || (size >= 1e-3 && size < 1e5) ? plain(size, digits) : powers(size, digits);
  return (x < 0 ? "−" : "") + text;
}

/** The same, with a plus sign if positive. */
export const signed = (x) => (x > 0 ? "+" : "") + number(x);

/** As a factor: in brackets if negative. */
export const factor = (x) => (x < 0 ? `(${number(x)})` : number(x));

/** Such as 12,544. */
export const count = (n) => n.toLocaleString("en-US");

/** Short enough to fit into a neuron. */
export function brief(x) {
  if (!Number.isFinite(x)) return number(x);
  const size = Math.abs(x);
  return (x <= -0.005 ? "−" : "") + (size < 9.95 ? size.toFixed(2) : size < 1000 ? size.toFixed(0) : "≫");
}

function plain(size, digits) {
  const rounded = Number(size.toPrecision(digits));
  return rounded >= 10 ** digits ? count(Math.round(size)) : size === 0 ? "0" : rounded.toPrecision(digits);
}

function powers(size, digits) {
  const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
  return `${mantissa}·${power(Number(exponent))}`;
}

/** Such as 10⁻³. */
export const power = (exponent) => `10${[...`${exponent}`].map((c) => (c === "-" ? "⁻" : SUPERSCRIPTS[c])).join("")}`;
