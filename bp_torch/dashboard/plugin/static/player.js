// A button that plays: one after another, until the last is reached or the button is pressed again.

import {html} from "./dom.js";

export class Player {
  /** Of `what`, so many milliseconds each. `on` has begin(), and next(), which says whether that was the last. */
  constructor(what, every, on) {
    Object.assign(this, {what, every, on});
    this.element = html("button", {onclick: () => this.toggle()}, `Play ${what}`);
  }

  get plays() {
    return Boolean(this.timer);
  }

  toggle() {
    if (this.plays) return this.stop();
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
