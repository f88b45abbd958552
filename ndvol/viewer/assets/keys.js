// The keys, and the dialog that lists them.

import { make } from "./dom.js";
import { scene } from "./scene.js";
import { change, state } from "./state.js";
import { choosePreset, moveTime } from "./toolbar.js";

const keysOf = ({ slices, zoom, fit, window }, show) => [
  [
    "↑ ↓, Page ↑ ↓",
    "one slice, ten slices, in the plane under the mouse",
    { ArrowUp: () => slices(1), ArrowDown: () => slices(-1), PageUp: () => slices(10), PageDown: () => slices(-10) },
  ],
  ["← →", "one step in time", { ArrowLeft: () => moveTime(-1), ArrowRight: () => moveTime(1) }],
  [
    "1 … 9",
    "range of values",
    Object.fromEntries(
      [..."123456789"].map((key, k) => [key, () => scene.presets[k] && choosePreset(scene.presets[k].name)]),
    ),
  ],
  [
    "o",
    "labels: both, fill, outline",
    { o: () => change({ style: { both: "fill", fill: "outline", outline: "both" }[state.style] }) },
  ],
  [
    "l",
    "labels on and off",
    { l: () => change({ labels: state.labels.length ? [] : scene.data.labels.map(({ name }) => name) }) },
  ],
  ["x", "crosshair on and off", { x: () => change({ cross: !state.cross }) }],
  ["n, p", "next window, the one before", { n: () => window(1), p: () => window(-1) }],
  ["+ −", "larger, smaller", { "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8) }],
  ["f", "the whole volume", { f: fit }],
  ["h", "this list", { h: () => show() }],
];
const MOUSE = [
  ["click, drag", "crosshair: the other planes follow"],
  ["wheel", "slices"],
  ["right or shift + drag", "width and level"],
  ["middle or ctrl + drag", "pan"],
  ["ctrl + wheel", "zoom"],
  ["double click", "one plane alone"],
];

// Listen for the keys, and return what shows the list of them; `acts` are those of the page.
export function listenToKeys(dialog, acts) {
  const show = () => dialog.showModal();
  const keys = keysOf(acts, show);
  const byKey = Object.assign({}, ...keys.map(([, , found]) => found));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !byKey[event.key] || !scene.data) return;
    event.preventDefault();
    byKey[event.key]();
  });
  const line = ([name, text]) => make("tr", {}, make("th", { textContent: name }), make("td", { textContent: text }));
  dialog.replaceChildren(
    make("h2", { textContent: "Mouse" }),
    make("table", {}, ...MOUSE.map(line)),
    make("h2", { textContent: "Keys" }),
    make("table", {}, ...keys.map(line)),
    make("button", { className: "main", textContent: "Close", onclick: () => dialog.close() }),
  );
  return show;
}
