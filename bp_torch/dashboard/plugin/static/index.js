// TensorBoard imports this module and calls render() in the page of the tab.
import {start} from "./app.js";
import {html} from "./dom.js";

export function render() {
  document.documentElement.lang = "en";
  document.head.append(html("link", {rel: "stylesheet", href: new URL("style.css", import.meta.url).href}));
  return start(document.body);
}
