// The keys: their descriptions, and the listener.

export const KEYS = [
  ["← →", "previous phase, next phase"],
  ["Space", "play the phases"],
  ["Shift ← →", "previous recorded step, next recorded step"],
  ["t", "play training"],
  ["0 … 9, w", "a test digit; the example of highest cost in the mini-batch"],
  ["Tab, then arrows", "move from neuron to neuron; Enter chooses one"],
  ["m", "next kind of maps of the first layer"],
  ["Escape", "unpin the weight, leave the network"],
];

/** Runs the action of a pressed key while `ready()`. Its name is the key's, "Shift" and an arrow's, or "digit". */
export function onKeys(actions, ready) {
  document.addEventListener("keydown", (event) => {
    const {key, shiftKey, target} = event;
    if (!ready() || event.ctrlKey || event.altKey || event.metaKey || target.matches("select, input")) return;
    if (target.matches("button, summary") && (key === " " || key === "Enter")) return; // they press the button
    const name = /^\d$/.test(key) ? "digit" : shiftKey && key.startsWith("Arrow") ? `Shift${key}` : key;
    if (!Object.hasOwn(actions, name)) return;
    actions[name](key);
    event.preventDefault();
  });
}
