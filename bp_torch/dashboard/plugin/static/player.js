// A button that plays a sequence until its end, or until it is pressed again.

import {html} from "./dom.js";

export class Player {
  /** Plays `what`, `every` milliseconds an item. `on` has begin(), and next(), which returns whether it reached the last. */
  constructor(what, every, on) {
    Object.assign(this, {what, every, on});
    this.element = html("button", {onclick: () => this.toggle()}, `Play ${what}`);
  }

  get isPlaying() {
    return Boolean(this.timer);
  }

  toggle() {
    if (this.isPlaying) return this.stop();
    this.on.begin();
    this.element.textContent = `Pause ${this.what}`;
    this.timer = setInterval(() => this.on.next() && this.stop(), this.every);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.element.textContent = `Play ${this.what}`;
  }
}
