// Requests to the server, cached. A frame never changes, unless its run is overwritten.

import {readFrame, readNetwork} from "./frame.js";

const CACHE_SIZE = 400;

export class Store {
  #runs = {};
  #cache = new Map();

  /** Requests the list of runs. */
  async reload() {
    this.#runs = await (await request("runs")).json();
  }

  get runs() {
    return Object.keys(this.#runs);
  }

  /** The run with the latest frame; the first if none has frames. */
  get newest() {
    const latest = (run) => this.#runs[run].at(-1)?.[1] ?? -Infinity;
    return this.runs.reduce((newest, run) => (latest(run) > latest(newest) ? run : newest));
  }

  /** The steps of a run's frames, in order. */
  steps(run) {
    return (this.#runs[run] ?? []).map(([step]) => step);
  }

  /** The network of a run. */
  network(run) {
    return this.#cached("network", {run}, this.#runs[run]?.at(-1)?.[1], (answer) =>
      answer.arrayBuffer().then(readNetwork),
    );
  }

  /** One frame. */
  async frame(run, step) {
    const network = await this.network(run);
    const time = this.#runs[run].find(([logged]) => logged === step)?.[1];
    return this.#cached("frame", {run, step}, time, async (answer) => readFrame(await answer.arrayBuffer(), network));
  }

  /** Pairs of step and mini-batch cost for all frames. */
  costs(run) {
    const last = this.#runs[run]?.at(-1)?.[1];
    return this.#cached("costs", {run}, last, async (answer) => {
      return (await answer.json()).map(([step, cost]) => [step, Number(cost)]); // NaN is sent as a string
    });
  }

  /** Requests, unless an answer of this time is cached; failures are not cached. */
  #cached(what, query, time, read) {
    const key = JSON.stringify([what, query, time]);
    if (!this.#cache.has(key)) {
      const answer = request(what, query).then(read);
      this.#cache.set(key, answer);
      answer.catch(() => this.#cache.delete(key));
      if (this.#cache.size > CACHE_SIZE) this.#cache.delete(this.#cache.keys().next().value);
    }
    return this.#cache.get(key);
  }
}

async function request(what, query = {}) {
  const address = new URL(what, import.meta.url);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  const answer = await fetch(address);
  if (answer.ok) return answer;
  const reason = (await answer.text()).slice(0, 200) || `${answer.status}`;
  const advice = reason.includes("blob key") ? ". Start TensorBoard with --load_fast false to read it" : "";
  throw new Error(`TensorBoard answers: ${reason}${advice}`);
}
