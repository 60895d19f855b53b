// Creates elements. A string among the children becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an HTML element. Attributes that begin with "on" are listeners; false and null ones are left out. */
export function html(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Creates an SVG element. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** A title in a picture; `anchor` is "start", "end" or "" for the middle. */
export const title = (anchor, x, y, text = "") => svg("text", {class: `title ${anchor}`, x, y}, text);

/** Sets attributes of an element. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

/** Redraws, and returns the focus to the element with the same data-key. */
export function refocused(draw) {
  const key = document.activeElement?.dataset.key;
  draw();
  if (key && document.activeElement?.dataset.key !== key) {
    document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({preventScroll: true});
  }
}

function filled(element, attributes, children) {
  set(element, attributes).append(...children);
  return element;
}
