// The tab: its state, and what is redrawn when the state changes.

import {averageTable} from "./average.js";
import {html, refocused, set} from "./dom.js";
import {download} from "./download.js";
import {historyBox, historySteps} from "./weight_history.js";
import {followTheme, onAddress, onReload, readAddress, writeAddress} from "./host.js";
import {onKeys} from "./keys.js";
import {emptyState, helpDialog, refusal} from "./messages.js";
import {NetworkView} from "./network.js";
import {avenuesTable, chainBox, movesTable} from "./panel.js";
import {captionOf, phasesOf, sceneOf} from "./phases.js";
import {Stepper} from "./stepper.js";
import {Store} from "./store.js";
import {Timeline} from "./timeline.js";
import {badge, exampleList, runList} from "./toolbar.js";
import {MAPS, nameOf, nearest, same, viewOf} from "./view.js";

export async function start(root) {
  const app = new App(root);
  followTheme(() => app.show());
  onReload(() => app.reload());
  onAddress(() => app.onHashChange());
  await app.reload();
}

class App {
  #store = new Store();
  #requests = 0;

  constructor(root) {
    this.state = readAddress();
    this.bar = html("header", {class: "bar"});
    this.stepper = new Stepper({phase: (phase) => this.change({phase})});
    this.caption = html("p", {class: "caption", "aria-live": "polite"});
    this.stage = html("div", {class: "picture"});
    this.mapsChooser = html("div", {class: "maps", role: "group", "aria-label": "Maps of the first layer"});
    this.chain = html("div", {class: "box chainbox"});
    this.details = html("div", {class: "details"});
    this.panel = html("aside", {class: "panel"}, this.chain, this.details);
    this.timeline = new Timeline({
      step: (step) => this.change({step}),
      spacing: (linear) => this.change({spacing: linear ? "linear" : null}),
    });
    this.buttons = [
      html("button", {"data-key": "svg", title: "Save the picture", onclick: () => this.#download()}, "SVG"),
      html("button", {"data-key": "help", title: "Help", onclick: () => this.help.showModal()}, "?"),
    ];
    this.notice = html("div", {class: "notice", role: "alert", hidden: true});
    this.help = helpDialog();
    const picture = html("section", {class: "left"}, this.stage, this.mapsChooser, this.timeline.element);
    this.main = html(
      "main",
      {},
      this.stepper.element,
      this.caption,
      html("div", {class: "stage"}, picture, this.panel),
    );
    root.replaceChildren(this.bar, this.notice, this.main, this.help);
    onKeys(this.#actions(), () => this.drawn && !this.help.open);
  }

  /** Requests the list of runs and steps, and shows the current state. */
  async reload() {
    try {
      await this.#store.reload();
    } catch (error) {
      return this.#showMessage(`The runs cannot be read. ${error.message}`);
    }
    await this.show();
  }

  /** Replaces the state by that of the address, if the address is of this tab. */
  onHashChange() {
    const state = readAddress();
    if (!Object.keys(state).length) return;
    this.state = state;
    this.show();
  }

  /** Changes any of run, step, phase, example, layer, neuron, maps, pin, column and spacing. */
  change(choices) {
    this.state = {...this.state, ...choices};
    this.show();
  }

  /** Shows the state; an invalid choice is replaced by the nearest valid one. */
  async show() {
    const request = ++this.#requests;
    const {runs} = this.#store;
    if (!runs.length) return this.#showMessage(emptyState());
    const run = this.state.run ?? this.#store.newest;
    if (!runs.includes(run)) return this.#showMessage(`There is no run ${run} with frames here. Choose another.`, run);
    try {
      const draw = await this.#prepare(run);
      if (request === this.#requests) draw();
    } catch (error) {
      if (request === this.#requests) this.#showMessage(`Run ${run} cannot be shown: ${error.message}.`, run);
    }
  }

  /** Loads what is needed; returns the function that draws it, or that shows a message. */
  async #prepare(run) {
    const network = await this.#store.network(run);
    if (network.refusal) return () => this.#showMessage(refusal(run, network), run);
    const step = nearest(this.#store.steps(run), this.state.step);
    if (step === undefined) return () => this.#showMessage(`Run ${run} has no frames yet.`, run);
    const costs = await this.#store.costs(run);
    const timeline = () =>
      this.timeline.update(this.#store.steps(run), costs, step, this.state.spacing === "linear", network.steps);
    try {
      const frame = await this.#store.frame(run, step);
      return () => this.#draw(run, frame, timeline);
    } catch (error) {
      return () => this.#damaged(run, step, error, timeline);
    }
  }

  #draw(run, frame, timeline) {
    const phases = phasesOf(frame.network);
    const view = viewOf(frame, phases, this.state);
    const before = this.drawn;
    this.drawn = {run, frame, view};
    this.notice.hidden = true;
    this.main.hidden = false;
    this.main.classList.remove("damaged");
    document.body.classList.toggle("still", view.phase.id === before?.view.phase.id); // no animation when the step changes
    this.main.dataset.phase = view.phase.id;
    this.stepper.update(phases, view.phase);
    set(this.caption, {"aria-live": this.timeline.isMoving ? "off" : "polite"});
    this.caption.textContent = captionOf(frame, view.phase, view);
    this.#showNetwork(frame, view, before);
    refocused(() => {
      this.#showBar(run, frame, view);
      this.#showMaps(view);
      this.#showChain();
      this.#showDetails(frame, view);
    });
    timeline();
    this.#address(run, frame, view);
    this.#prefetch(run, frame.step);
  }

  #showBar(run, frame, view) {
    const open = this.bar.querySelector("details")?.open ?? false;
    this.bar.replaceChildren(
      runList(this.#store.runs, run, (name) => this.change({run: name, step: undefined, pin: null})),
      exampleList(frame, view, (example) => this.change({example})),
      badge(frame, open),
      ...this.buttons,
    );
  }

  #showNetwork(frame, view, before) {
    if (before?.frame.network !== frame.network) {
      this.hovered = null;
      const on = {hover: (target) => this.#hover(target), choose: (target) => this.#choose(target)};
      this.picture = new NetworkView(frame.network, frame.layers, on);
      this.stage.replaceChildren(this.picture.element);
    }
    const scene = sceneOf(frame, view.phase, view);
    this.picture.update(frame, scene, view);
    if (before && before.view.phase.id !== view.phase.id) this.picture.pulse(scene.edges, view.phase.id !== "forward");
  }

  #showMaps(view) {
    const buttons = Object.entries(MAPS).map(([id, name]) => {
      const attributes = {"data-key": `maps ${id}`, "aria-pressed": String(id === view.chosenMaps)};
      return html("button", {...attributes, onclick: () => this.change({maps: id})}, name);
    });
    this.mapsChooser.replaceChildren("Maps of the first layer: ", ...buttons);
  }

  #showChain() {
    const {frame, view} = this.drawn;
    const target = this.hovered ?? view.target;
    const pinned = same(target, view.pin);
    const pin = () => this.change({pin: pinned ? null : nameOf(target)});
    this.chain.replaceChildren(...chainBox(frame, view.phase, target, view.example, pinned, pin));
  }

  #showDetails(frame, view) {
    const {layer, neuron, example, pin, phase} = view;
    const choose = (target) => this.#choose(target);
    const tables = {
      average: () => averageTable(frame, layer, neuron, view.column, (choices) => this.change(choices)),
      step: () => movesTable(frame, layer, neuron, choose),
    };
    const table = tables[phase.id]?.() ?? avenuesTable(frame, layer, neuron, example, choose);
    this.history = html("div", {class: "box", hidden: !pin});
    this.details.replaceChildren(this.history, html("div", {class: "box"}, ...table));
    if (pin) this.#showHistory(pin);
  }

  /** Draws the curves of a pinned weight when its frames have arrived. */
  async #showHistory(pin) {
    const {run, frame} = this.drawn;
    const box = this.history;
    const steps = historySteps(this.#store.steps(run), frame.step);
    const frames = await Promise.all(steps.map((step) => this.#store.frame(run, step).catch(() => null)));
    const title = html("h3", {}, "The pinned weight through training");
    if (box.isConnected) box.replaceChildren(title, historyBox(frames, pin, steps.indexOf(frame.step)));
  }

  #hover(target) {
    this.hovered = target;
    this.picture.mark(target ?? this.drawn.view.target);
    refocused(() => this.#showChain());
  }

  /** Selects a neuron; pins a weight. */
  #choose(target) {
    this.change({layer: target.l, neuron: target.j, ...(target.k === undefined ? {} : {pin: nameOf(target)})});
  }

  #address(run, frame, view) {
    const {maps} = this.state;
    const pin = view.pin ? nameOf(view.pin) : null;
    const {phase, exampleId: example} = view;
    const {layer, neuron, spacing, column} = this.state; // not from the view: by default they follow the example
    this.state = {run, step: frame.step, phase: phase.id, example, layer, neuron, maps, pin, spacing, column};
    writeAddress(this.state);
  }

  /** Loads the neighbouring steps in advance. */
  #prefetch(run, step) {
    const steps = this.#store.steps(run);
    const place = steps.indexOf(step);
    for (const next of [steps[place + 1], steps[place - 1], steps[place + 2]]) {
      if (next !== undefined) this.#store.frame(run, next).catch(() => {}); // errors are reported when it is shown
    }
  }

  /** The actions of the keys. */
  #actions() {
    return {
      ArrowRight: () => this.stepper.move(1),
      ArrowLeft: () => this.stepper.move(-1),
      ShiftArrowRight: () => this.timeline.move(1),
      ShiftArrowLeft: () => this.timeline.move(-1),
      " ": () => this.stepper.player.toggle(),
      digit: (digit) => this.change({example: digit}),
      t: () => this.timeline.player.toggle(),
      w: () => this.change({example: "worst"}),
      m: () => this.#nextMaps(),
      Escape: () => this.#clearSelection(),
      "?": () => this.help.showModal(),
    };
  }

  /** Unpins, closes the badge, and moves the focus out of the network. */
  #clearSelection() {
    document.activeElement?.blur();
    this.bar.querySelector("details")?.removeAttribute("open");
    this.change({pin: null});
  }

  #nextMaps() {
    const names = Object.keys(MAPS);
    this.change({maps: names[(names.indexOf(this.drawn.view.chosenMaps) + 1) % names.length]});
  }

  #download() {
    const {run, frame, view} = this.drawn;
    const name = `backprop ${run} step ${frame.step} ${view.phase.id}.svg`.replace(/[^\w.-]+/g, "-");
    download(
      this.picture.element,
      name,
      `${run}, step ${frame.step}, ${view.phase.title.toLowerCase()}: label ${frame.labels[view.example]}`,
    );
  }

  /** Reports a damaged frame, and keeps the slider to choose another. */
  #damaged(run, step, error, timeline) {
    this.#showMessage(`Step ${step} of run ${run} cannot be shown: ${error.message}. Choose another step or run.`, run);
    this.state = {...this.state, run, step};
    this.main.hidden = false;
    this.main.classList.add("damaged");
    timeline();
  }

  /** Shows a message in place of the network; below the list of runs if a run is given. */
  #showMessage(message, run) {
    this.notice.replaceChildren(message);
    this.notice.hidden = false;
    this.main.hidden = true;
    this.bar.replaceChildren(
      ...(run ? [runList(this.#store.runs, run, (name) => this.change({run: name, step: undefined, pin: null}))] : []),
    );
  }
}
