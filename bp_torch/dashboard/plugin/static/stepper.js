// The bar of phases above the picture, with buttons to move and to play.

import {html, set} from "./dom.js";
import {Player} from "./player.js";

const PLAY_EVERY = 3500; // milliseconds for each phase

export class Stepper {
  /** `on` has phase(id). */
  constructor(on) {
    this.on = on;
    this.phases = [];
    this.list = html("ol", {class: "phases"});
    this.player = new Player("phases", PLAY_EVERY, {
      begin: () => this.id === this.phases.at(-1)?.id && this.#choose(this.phases[0].id),
      next: () => this.move(1) >= this.phases.length - 1,
    });
    const arrow = (text, title, by) => html("button", {title, "aria-label": title, onclick: () => this.move(by)}, text);
    const [before, after] = [arrow("◀", "Previous phase (←)", -1), arrow("▶", "Next phase (→)", 1)];
    this.element = html("nav", {"aria-label": "Phases"}, before, this.list, after, this.player.element);
  }

  /** Shows the phases and marks the current one. */
  update(phases, {id}) {
    if (this.phases.length !== phases.length) this.list.replaceChildren(...phases.map(this.#item, this));
    Object.assign(this, {phases, id});
    for (const {firstChild: button} of this.list.children)
      set(button, {"aria-current": button.dataset.phase === id && "step"});
  }

  /** Moves by a number of phases, back if negative; returns the new index. */
  move(by) {
    const place = this.phases.findIndex(({id}) => id === this.id) + by;
    if (this.phases[place]) this.#choose(this.phases[place].id);
    return place;
  }

  /** Sets the phase at once, so that the next move starts from it even before it is drawn. */
  #choose(id) {
    this.id = id;
    this.on.phase(id);
  }

  #item({id, title}, place) {
    const button = html("button", {"data-phase": id, onclick: () => this.#choose(id)}, `${place + 1} ${title}`);
    return html("li", {}, button);
  }
}
