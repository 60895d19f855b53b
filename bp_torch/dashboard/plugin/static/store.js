// What the server answered, and is kept: a frame does not change, unless its run is made anew.

import {readFrame, readNetwork} from "./frame.js";

const MOST_KEPT = 400;

export class Store {
  #runs = {};
  #kept = new Map();

  /** Asks again which runs there are. */
  async reload() {
    this.#runs = await (await request("runs")).json();
  }

  get runs() {
    return Object.keys(this.#runs);
  }

  /** The run of the latest frame; of runs without any, the first. */
  get newest() {
    const latest = (run) => this.#runs[run].at(-1)?.[1] ?? -Infinity;
    return this.runs.reduce((newest, run) => (latest(run) > latest(newest) ? run : newest));
  }

  /** The steps of a run's frames, ascending. */
  steps(run) {
    return (this.#runs[run] ?? []).map(([step]) => step);
  }

  /** What the run's frames have in common. */
  network(run) {
    return this.#once("network", {run}, this.#runs[run]?.[0]?.[1], (answer) => answer.arrayBuffer().then(readNetwork));
  }

  /** One frame. */
  async frame(run, step) {
    const network = await this.network(run);
    const taken = this.#runs[run].find(([its]) => its === step)?.[1];
    return this.#once("frame", {run, step}, taken, async (answer) => readFrame(await answer.arrayBuffer(), network));
  }

  /** The mini-batch's cost at each frame: pairs of step and cost. */
  costs(run) {
    const last = this.#runs[run]?.at(-1)?.[1];
    return this.#once("costs", {run}, last, async (answer) => {
      return (await answer.json()).map(([step, cost]) => [step, Number(cost)]); // NaN comes as a word
    });
  }

  /** Asks, unless the answer of that time is kept; a failure is not. */
  #once(what, query, time, read) {
    const key = JSON.stringify([what, query, time]);
    if (!this.#kept.has(key)) {
      const answer = request(what, query).then(read);
      this.#kept.set(key, answer);
      answer.catch(() => this.#kept.delete(key));
      if (this.#kept.size > MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value);
    }
    return this.#kept.get(key);
  }
}

async function request(what, query = {}) {
  const address = new URL(what, import.meta.url);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  const answer = await fetch(address);
  if (answer.ok) return answer;
  const reason = (await answer.text()).slice(0, 200) || `${answer.status}`;
  const way = reason.includes("blob key") ? ". It can read it if it is started with --load_fast false" : "";
  throw new Error(`TensorBoard answers: ${reason}${way}`);
}
