// What is shown, in one object; the address's hash holds it, so that a reload keeps the place.

import { later } from "./dom.js";

export const state = {
  case: "", image: "", at: null, centre: null, zoom: 1, t: 0, c: 0,
  low: 0, high: 1, preset: "", maximised: "", tab: "objects",
  labels: null, hidden: new Set(), style: "both", opacity: 0.35, cross: true,
  draw: null, picked: -1,
};

const listeners = new Set();

export const onChange = (act) => listeners.add(act);

export function change(patch) {
  Object.assign(state, patch);
  for (const act of listeners) act(patch);
  saveSoon();
}

const numbers = (text) => text.split(",").map(Number);
const FORMS = {
  case: [String, String], image: [String, String], preset: [String, String], tab: [String, String],
  style: [String, String], maximised: [String, String],
  zoom: [String, Number], t: [String, Number], c: [String, Number], picked: [String, Number],
  low: [String, Number], high: [String, Number], opacity: [String, Number],
  cross: [(on) => (on ? "1" : "0"), (text) => text === "1"],
  at: [String, numbers], centre: [String, numbers],
  labels: [(names) => names.join("\n"), (text) => (text ? text.split("\n") : [])],
  hidden: [(names) => [...names].join("\n"), (text) => new Set(text ? text.split("\n") : [])],
  draw: [(draw) => JSON.stringify(draw), (text) => JSON.parse(text)],
};

const saveSoon = later(150, () => {
  const facts = new URLSearchParams();
  for (const [name, [write]] of Object.entries(FORMS)) {
    if (state[name] !== null && state[name] !== "") facts.set(name, write(state[name]));
  }
  history.replaceState(null, "", `#${facts}`);
});

// What the hash says; anything in it that cannot be understood is passed over, as if it were not there.
export function saved() {
  const found = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    try {
      const value = FORMS[name][1](text);
      const sound = [value].flat().every((part) => typeof part !== "number" || Number.isFinite(part));
      if (sound) found[name] = value;
    } catch { /* not ours */ }
  }
  return found;
}
