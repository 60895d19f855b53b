// TensorBoard around the tab: its address, its colours, and its button to load anew.
// The tab is a frame of the same origin; opened by itself, the page is its own host.

import {setTheme} from "./colours.js";

const NAME = "backprop";
const QUIET = 200; // milliseconds
const host = window.parent;
let waiting = null;

/** Calls when there may be new data. TensorBoard waits for an answer to each of its messages. */
export function onReload(call) {
  const {port1, port2} = new MessageChannel();
  port1.onmessage = ({data}) => {
    const {type, id, isReply} = JSON.parse(data);
    if (isReply) return;
    port1.postMessage(JSON.stringify({type, id, payload: null, error: null, isReply: true}));
    if (type === "experimental.DataReloaded") call();
  };
  host.postMessage("experimental.bootstrap", "*", [port2]);
}

/** Keeps the page's colours as TensorBoard's are, or the system's where none is around; calls when they change. */
export function followTheme(call) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const dark = host === window ? system.matches : host.document.body.classList.contains("dark-mode");
    setTheme(dark ? "dark" : "light");
  };
  const changed = () => {
    follow();
    call();
  };
  if (host === window) system.addEventListener("change", changed);
  else new MutationObserver(changed).observe(host.document.body, {attributeFilter: ["class"]});
  follow();
}

/** What the address holds, such as {run: "a", step: "12"}. */
export function readAddress() {
  const [name, ...rest] = host.location.hash.slice(1).split("&");
  return name === NAME ? Object.fromEntries(new URLSearchParams(rest.join("&"))) : {};
}

/** Puts this into the address once nothing has changed for a moment, as browsers allow few changes a second. */
export function writeAddress(state) {
  clearTimeout(waiting);
  waiting = setTimeout(() => write(state), QUIET);
}

/** Unless another tab is open; the way back is not lengthened. */
function write(state) {
  const here = host.location.hash.slice(1).split("&")[0];
  if (here !== NAME && host !== window) return;
  const chosen = Object.entries(state).filter(([, value]) => value !== null && value !== undefined);
  const {pathname, search} = host.location; // without them it would be relative to the page's <base>
  host.history.replaceState(host.history.state, "", `${pathname}${search}#${NAME}&${new URLSearchParams(chosen)}`);
}

/** Calls when someone else changed the address. */
export function onAddress(call) {
  host.addEventListener("hashchange", call);
}
