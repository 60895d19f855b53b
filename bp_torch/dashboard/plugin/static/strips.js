// Beside each neuron of a layer a square for each wish of the layer after it, before they are added up.

import {neuronName} from "./chain.js";
import {css, strong} from "./colours.js";
import {svg, title} from "./dom.js";
import {largest} from "./maps.js";
import {number} from "./numbers.js";

export class Strips {
  constructor(network, geometry) {
    Object.assign(this, {network, geometry});
    this.element = svg("g", {class: "strips"});
  }

  /** Shows the wishes of `each` neuron for those of the layer before it, `layer`; or nothing. */
  update(strips) {
    if (strips?.layer !== this.layer) this.element.replaceChildren(...(strips ? this.#squares(strips) : []));
    this.layer = strips?.layer;
    if (!strips) return;
    const scale = largest(strips.each.map(largest)) || 1;
    const squares = this.element.querySelectorAll("rect");
    strips.each.forEach((wishes, j) => {
      const name = neuronName(this.network, strips.layer + 1, j);
      wishes.forEach((wish, k) => {
        const square = squares[j * wishes.length + k];
        square.style.fill = css(strong(wish / scale));
        square.firstChild.textContent = `${name} wishes ${number(wish)}`;
      });
    });
  }

  /** The title, the numbers, and squares still without colours: for the first neuron after the layer, the second, … */
  #squares({layer, each}) {
    const column = this.geometry.columns[layer];
    const left = column.x + column.radius + 24;
    const width = this.geometry.columns[layer + 1].x - column.radius - 12 - left;
    const side = Math.min(11, column.gap / 1.2 - 3, width / each.length);
    const who = layer + 2 === this.geometry.columns.length ? "output" : "neuron";
    const every = each.length > 10 ? 2 : 1; // two digits take the room of two
    const numbered = [...each.keys()].filter((j) => j % every === 0);
    const top = column[0].y - side / 2 - 3;
    const numbers = numbered.map((j) => svg("text", {class: "which", x: left + (j + 0.45) * side, y: top}, `${j}`));
    const squares = each.flatMap((_, j) =>
      column.map(({y}) => {
        const square = {x: left + j * side, y: y - side / 2, width: side - 1, height: side - 1};
        return svg("rect", square, svg("title"));
      }),
    );
    return [title("start", left, column[0].y - 21, `each ${who}’s wish`), ...numbers, ...squares];
  }
}
