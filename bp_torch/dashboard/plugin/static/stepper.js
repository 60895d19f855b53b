// Above the picture: the phases, from one to the next by buttons, or played.

import {html, set} from "./dom.js";
import {Player} from "./player.js";

const PLAY_EVERY = 3500; // milliseconds a phase stays

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
    const [before, after] = [arrow("◀", "Phase before (←)", -1), arrow("▶", "Next phase (→)", 1)];
    this.element = html("nav", {"aria-label": "Phases"}, before, this.list, after, this.player.element);
  }

  /** Shows these phases, and at which of them it is. */
  update(phases, {id}) {
    if (this.phases.length !== phases.length) this.list.replaceChildren(...phases.map(this.#item, this));
    Object.assign(this, {phases, id});
    for (const {firstChild: button} of this.list.children)
      set(button, {"aria-current": button.dataset.phase === id && "step"});
  }

  /** So many phases on, or back. */
  move(by) {
    const place = this.phases.findIndex(({id}) => id === this.id) + by;
    if (this.phases[place]) this.#choose(this.phases[place].id);
    return place;
  }

  /** At once, so that the next move begins from there, though it is still to be drawn. */
  #choose(id) {
    this.id = id;
    this.on.phase(id);
  }

  #item({id, title}, place) {
    const button = html("button", {"data-phase": id, onclick: () => this.#choose(id)}, `${place + 1} ${title}`);
    return html("li", {}, button);
  }
}
