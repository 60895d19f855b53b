// The page of TensorBoard around the tab: its address, its theme, and its reload button.
// The tab is an iframe of the same origin. Opened alone, the page is its own host.

import {setTheme} from "./colours.js";

const NAME = "backprop";
const DELAY = 200; // milliseconds
const host = window.parent;
let waiting = null;

/** Calls back when there may be new data. TensorBoard waits for a reply to each of its messages. */
export function onReload(callback) {
  const {port1, port2} = new MessageChannel();
  port1.onmessage = ({data}) => {
    const {type, id, isReply} = JSON.parse(data);
    if (isReply) return;
    port1.postMessage(JSON.stringify({type, id, payload: null, error: null, isReply: true}));
    if (type === "experimental.DataReloaded") callback();
  };
  host.postMessage("experimental.bootstrap", "*", [port2]);
}

/** Follows the theme of TensorBoard, or of the system if the page is alone; calls back when it changes. */
export function followTheme(callback) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const dark = host === window ? system.matches : host.document.body.classList.contains("dark-mode");
    setTheme(dark ? "dark" : "light");
  };
  const changed = () => {
    follow();
    callback();
  };
  if (host === window) system.addEventListener("change", changed);
  else new MutationObserver(changed).observe(host.document.body, {attributeFilter: ["class"]});
  follow();
}

/** The state in the address, such as {run: "a", step: "12"}. */
export function readAddress() {
  const [name, ...rest] = host.location.hash.slice(1).split("&");
  return name === NAME ? Object.fromEntries(new URLSearchParams(rest.join("&"))) : {};
}

/** Writes the state into the address after a delay, because browsers limit the changes per second. */
export function writeAddress(state) {
  clearTimeout(waiting);
  waiting = setTimeout(() => write(state), DELAY);
}

/** Replaces the entry of the history, unless another tab is open. */
function write(state) {
  const here = host.location.hash.slice(1).split("&")[0];
  if (here !== NAME && host !== window) return;
  const chosen = Object.entries(state).filter(([, value]) => value !== null && value !== undefined);
  const {pathname, search} = host.location; // without them the address would be relative to the page's <base>
  host.history.replaceState(host.history.state, "", `${pathname}${search}#${NAME}&${new URLSearchParams(chosen)}`);
}

/** Calls back when the address was changed from outside. */
export function onAddress(callback) {
  host.addEventListener("hashchange", callback);
}
