// The panel of label volumes: which are drawn, how, and which of their categories.

import { make, swatch } from "./dom.js";
import { mapOf, scene } from "./scene.js";
import { change, onChange, state } from "./state.js";

const STYLES = { both: "Both", fill: "Fill", outline: "Outline" };

export function labelsPanel() {
  const root = make("div", { className: "panel" });
  let built = null;

  function build() {
    built = scene.data;
    const shared = [volumes(), look(), categories()];
    root.replaceChildren(...(scene.data.labels.length ? shared.flat() : [
      make("p", { className: "note", textContent: "This case has no label volumes." })]));
  }

  onChange((patch) => {
    if (!scene.data) return;
    if (built !== scene.data || "image" in patch) build();
    root.querySelectorAll("[data-sync]").forEach((node) => node.sync());
  });
  return { root, reload: build };
}

// A check box that follows the state; `read` tells whether it is on, null for half.
function check(read, act, ...content) {
  const input = make("input", { type: "checkbox", onchange: () => act(input.checked), data: { sync: "" } });
  input.sync = () => {
    const on = read();
    input.checked = Boolean(on);
    input.indeterminate = on === null;
  };
  return make("label", { className: "check" }, input, ...content);
}

function volumes() {
  return scene.data.labels.map((label) => {
    const placed = mapOf(label);
    const line = check(() => placed && state.labels.includes(label.name), (on) => {
      const others = state.labels.filter((name) => name !== label.name);
      change({ labels: on ? [...others, label.name] : others });
    }, make("b", { textContent: label.name }));
    line.firstChild.disabled = !placed;
    const why = make("p", { className: "note", textContent:
      `Lies on a grid that cannot be laid over ${state.image} axis by axis.` });
    return placed ? line : make("div", {}, line, why);
  });
}

function look() {
  const buttons = Object.entries(STYLES).map(([style, textContent]) => {
    const button = make("button", { textContent, onclick: () => change({ style }), data: { sync: "" } });
    button.sync = () => button.setAttribute("aria-pressed", state.style === style);
    return button;
  });
  const opacity = make("input", { type: "range", min: 0, max: 1, step: 0.05, data: { sync: "" },
    oninput: () => change({ opacity: Number(opacity.value) }) });
  opacity.sync = () => { opacity.value = state.opacity; };
  opacity.setAttribute("aria-label", "Opacity of the fill");
  return [make("div", { className: "segments" }, ...buttons),
    make("label", { className: "slider" }, make("span", { textContent: "Opacity" }), opacity)];
}

// The tree of those categories that a label volume of the case names, and what they are kinds of.
function categories() {
  const tree = scene.bundle.categories;
  const named = new Set(scene.data.labels.flatMap((label) => label.values.map(({ category }) => category)));
  const colours = new Map(scene.data.labels.flatMap((label) => label.values.map((v) => [v.category, v.colour])));
  const below = (k) => {
    const found = [];
    for (let i = k; i < tree.length && (i === k || tree[i].depth > tree[k].depth); i += 1) {
      if (named.has(tree[i].name)) found.push(tree[i].name);
    }
    return found;
  };
  const set = (names, on) => {
    const hidden = new Set(state.hidden);
    names.forEach((name) => (on ? hidden.delete(name) : hidden.add(name)));
    change({ hidden });
  };
  const rows = tree.map(({ name, depth }, k) => {
    const names = below(k);
    if (!names.length) return null;
    const read = () => {
      const off = names.filter((found) => state.hidden.has(found)).length;
      return off === 0 ? true : off === names.length ? false : null;
    };
    const line = check(read, (on) => set(names, on), named.has(name) ? swatch(colours.get(name)) : "",
      make("span", { textContent: name }));
    line.style.paddingLeft = `${depth * 18}px`;
    return line;
  });
  const all = [...named];
  return [
    make("div", { className: "heading" }, make("span", { textContent: "Categories" }),
      make("button", { textContent: "all", onclick: () => set(all, true) }),
      make("button", { textContent: "none", onclick: () => set(all, false) })),
    ...rows.filter(Boolean),
  ];
}
