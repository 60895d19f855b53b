// Saves a picture as a file, with the styles of the page written into it.

import {html, set, svg} from "./dom.js";

const STYLES = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "opacity",
  "font-size",
  "font-weight",
  "text-anchor",
  "scale",
  "image-rendering",
  "display",
];

export function download(picture, name, caption) {
  const copy = picture.cloneNode(true);
  const originals = picture.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((element, i) => inline(originals[i], element));
  const {width, height} = picture.viewBox.baseVal;
  const paper = getComputedStyle(document.body).backgroundColor;
  set(copy, {
    xmlns: "http://www.w3.org/2000/svg",
    width,
    height: height + 30,
    viewBox: `0 -30 ${width} ${height + 30}`,
    "font-family": "sans-serif",
  });
  const textColour = getComputedStyle(document.body).color;
  copy.prepend(
    svg("rect", {y: -30, width, height: height + 30, fill: paper}),
    svg("text", {x: 8, y: -10, "font-size": 13, fill: textColour}, caption),
  );
  const link = html("a", {
    download: name,
    href: URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], {type: "image/svg+xml"})),
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function inline(original, copy) {
  const style = getComputedStyle(original);
  for (const name of STYLES) copy.style.setProperty(name, style.getPropertyValue(name));
  copy.removeAttribute("class");
}
