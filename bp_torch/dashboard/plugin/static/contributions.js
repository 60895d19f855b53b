// Next to each neuron of a layer, a square for its nudge by each neuron of the next layer, before they are added up.

import {neuronName} from "./chain.js";
import {css, divergingStrong} from "./colours.js";
import {svg, title} from "./dom.js";
import {largest} from "./maps.js";
import {signed} from "./numbers.js";

export class Contributions {
  constructor(network, geometry) {
    Object.assign(this, {network, geometry});
    this.element = svg("g", {class: "contributions"});
  }

  /** Shows the nudges that `each` neuron gives to those of the previous layer, `layer`; null clears them. */
  update(contributions) {
    if (contributions?.layer !== this.layer)
      this.element.replaceChildren(...(contributions ? this.#squares(contributions) : []));
    this.layer = contributions?.layer;
    if (!contributions) return;
    const scale = largest(contributions.each.map(largest)) || 1;
    const squares = this.element.querySelectorAll("rect");
    contributions.each.forEach((nudges, j) => {
      const name = neuronName(this.network, contributions.layer + 1, j);
      nudges.forEach((nudge, k) => {
        const square = squares[j * nudges.length + k];
        square.style.fill = css(divergingStrong(nudge / scale));
        square.firstChild.textContent = `nudge by ${name}: ${signed(nudge)}`;
      });
    });
  }

  /** The title, the numbers, and the squares without colours, ordered by the neuron that gives the nudge. */
  #squares({layer, each}) {
    const column = this.geometry.columns[layer];
    const left = column.x + column.radius + 24;
    const width = this.geometry.columns[layer + 1].x - column.radius - 12 - left;
    const side = Math.min(11, column.gap / 1.2 - 3, width / each.length);
    const giver = layer + 2 === this.geometry.columns.length ? "output" : "neuron";
    const every = each.length > 10 ? 2 : 1; // two digits are as wide as two squares
    const numbered = [...each.keys()].filter((j) => j % every === 0);
    const top = column[0].y - side / 2 - 3;
    const numbers = numbered.map((j) => svg("text", {class: "which", x: left + (j + 0.45) * side, y: top}, `${j}`));
    const squares = each.flatMap((_, j) =>
      column.map(({y}) => {
        const square = {x: left + j * side, y: y - side / 2, width: side - 1, height: side - 1};
        return svg("rect", square, svg("title"));
      }),
    );
    return [title("start", left, column[0].y - 21, `nudges by each ${giver}`), ...numbers, ...squares];
  }
}
