// The keys: what each is for, and what is to be done when one is pressed.

export const KEYS = [
  ["← →", "phase before, next phase"],
  ["Space", "play the phases"],
  ["Shift ← →", "logged step before, next"],
  ["t", "play training"],
  ["0 … 9, w", "a digit of the test set; the worst of the mini-batch"],
  ["Tab, then arrows", "go from neuron to neuron; Enter chooses"],
  ["m", "other maps of the first layer"],
  ["Escape", "unpin the weight, leave the network"],
];

/** Does what `actions` has for a key, whose name has "Shift" before it where that is held; a digit is 0 to all of them. */
export function onKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const {key, shiftKey, target} = event;
    if (event.ctrlKey || event.altKey || event.metaKey || target.matches("select, input")) return;
    if (target.matches("button, summary") && (key === " " || key === "Enter")) return; // presses the button
    const name = /^\d$/.test(key) ? "0" : shiftKey && key.startsWith("Arrow") ? `Shift${key}` : key;
    if (Object.hasOwn(actions, name) && actions[name](key) !== false) event.preventDefault();
  });
}
