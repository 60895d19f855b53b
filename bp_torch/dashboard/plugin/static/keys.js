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

/** While `ready()`, does what `actions` has for a key: by its name, behind "Shift" an arrow's, for all digits "digit". */
export function onKeys(actions, ready) {
  document.addEventListener("keydown", (event) => {
    const {key, shiftKey, target} = event;
    if (!ready() || event.ctrlKey || event.altKey || event.metaKey || target.matches("select, input")) return;
    if (target.matches("button, summary") && (key === " " || key === "Enter")) return; // presses the button
    const name = /^\d$/.test(key) ? "digit" : shiftKey && key.startsWith("Arrow") ? `Shift${key}` : key;
    if (!Object.hasOwn(actions, name)) return;
    actions[name](key);
    event.preventDefault();
  });
}
