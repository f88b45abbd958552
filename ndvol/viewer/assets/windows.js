// The panel of drawn windows: what to draw, what was drawn, and one of them after the other.

import { ask } from "./api.js";
import { clamp, make } from "./dom.js";
import { lengthOf, spatialAxes } from "./geometry.js";
import { boxOnImage, image, scene } from "./scene.js";
import { change, state } from "./state.js";

export const drawn = { image: "", axes: "", windows: [], code: {}, problems: [] };

const label = (text, input) => make("label", { className: "line" }, make("span", { textContent: text }), input);
const number = (min, max) => make("input", { type: "number", min, max, step: 1 });

// `go` shows a window: it opens its case and moves there.
export function windowsPanel({ go }) {
  const size = make("input", { type: "text", spellcheck: false, title: "Voxels per axis, such as 16,48,48" });
  const [positive, negative, seed] = [number(0, 200), number(0, 200), number(0, 2 ** 40)];
  const overlap = make("input", { type: "number", min: 0, max: 1, step: 0.01 });
  const whole = make("input", { type: "checkbox" });
  const categories = make("div", { className: "choices" });
  const told = make("div", { className: "told" });
  const list = make("ul", { className: "rows" });
  const step = (by, text, title) => make("button", { textContent: text, title, onclick: () => pick(state.picked + by) });
  const steps = make("div", { className: "steps", hidden: true },
    step(-1, "‹ Before", "The window before (p)"), make("span"), step(1, "Next ›", "The next window (n)"));
  const form = make("form", { className: "draw", onsubmit: (event) => { event.preventDefault(); submit(); } },
    label("Window", size), label("Positive", positive), label("Negative", negative),
    label("Overlap of negatives", overlap), label("Seed", seed),
    make("details", {}, make("summary", { textContent: "Categories" }), categories),
    make("label", { className: "check" }, whole, make("span", { textContent: "from all cases" })),
    make("button", { className: "main", textContent: "Draw" }));

  function fill(draw) {
    size.value = draw?.window ?? suggested();
    [positive.value, negative.value] = [draw?.positive ?? 8, draw?.negative ?? 8];
    [overlap.value, seed.value, whole.checked] = [draw?.max_overlap ?? 0, draw?.seed ?? 0, draw?.whole ?? false];
    categories.replaceChildren(...scene.bundle.categories.map(({ name, depth }) => {
      const box = make("input", { type: "checkbox", value: name, checked: draw?.categories?.includes(name) ?? false });
      const line = make("label", { className: "check" }, box, make("span", { textContent: name }));
      line.style.paddingLeft = `${depth * 18}px`;
      return line;
    }), make("p", { className: "note", textContent: "None chosen: all that occur." }));
  }

  function submit() {
    const chosen = [...categories.querySelectorAll("input:checked")].map((box) => box.value);
    const draw = { window: size.value.replaceAll(" ", ""), positive: positive.value, negative: negative.value,
      max_overlap: overlap.value, seed: seed.value, whole: whole.checked, categories: chosen };
    change({ draw, picked: -1 });
    load();
  }

  async function load() {
    const { whole: all, categories: names, ...rest } = state.draw;
    told.replaceChildren(make("p", { className: "note", textContent: "Drawing …" }));
    try {
      const facts = { ...rest, categories: names.join("\n"), ...(all ? {} : { case: state.case }) };
      Object.assign(drawn, await ask("windows", facts));
    } catch (problem) {
      Object.assign(drawn, { windows: [], code: {}, problems: [{ role: "", error: problem.message }] });
    }
    show();
    change({ picked: clamp(state.picked, -1, drawn.windows.length - 1) });
  }

  function show() {
    told.replaceChildren(
      ...drawn.problems.map(({ role, error }) =>
        make("p", { className: "problem", textContent: role ? `${role}: ${error}` : error })),
      ...Object.values(drawn.code).map((code) => make("code", { textContent: code, title: "Draws these windows again" })));
    steps.hidden = !drawn.windows.length;
    list.replaceChildren(...drawn.windows.map((window, k) => make("li", {}, make("button", {
      className: "row", onclick: () => pick(k) },
    make("span", { className: "head" }, make("span", { className: `swatch ${window.role}` }),
      make("span", { className: "name", textContent: window.category || window.role }),
      make("span", { className: "tail", textContent: `${window.role} ${window.index}` })),
    make("span", { className: "foot", textContent: [
      ...[...drawn.axes].map((axis, i) => `${axis} ${window.start[i]}–${window.stop[i] - 1}`),
      ...(window.case === state.case ? [] : [window.case])].join("  ") })))));
    mark();
  }

  function mark() {
    list.querySelectorAll(".row").forEach((row, k) => row.classList.toggle("chosen", k === state.picked));
    list.querySelectorAll(".row")[state.picked]?.scrollIntoView({ block: "nearest" });
    steps.children[1].textContent = `${state.picked + 1} / ${drawn.windows.length}`;
  }

  async function pick(number) {
    const window = drawn.windows.at(number % drawn.windows.length);
    if (!window) return;
    change({ picked: drawn.windows.indexOf(window) });
    mark();
    await go(window);
  }

  // Another case: its own windows, unless they were drawn from all.
  function reload() {
    fill(state.draw);
    if (state.draw && !state.draw.whole) load();
    else if (state.draw && !drawn.windows.length) load();
    else show();
  }

  return { root: make("div", { className: "panel" }, form, told, steps, list), reload, pick };
}

function suggested() {
  const shown = image();
  return spatialAxes(shown).map((axis) => Math.max(1, Math.min(64, Math.round(lengthOf(shown, axis) / 3)))).join();
}

export const imageOfDraws = () => scene.data.images.find(({ name }) => name === drawn.image) ?? scene.data.images[0];

// The drawn windows of the case that is shown, as boxes for the panes.
export function windowBoxes() {
  return drawn.windows.flatMap((window, k) => {
    if (window.case !== scene.data.case) return [];
    const box = boxOnImage(imageOfDraws(), { axes: drawn.axes, ...window });
    return box ? [{ ...box, role: window.role, picked: k === state.picked }] : [];
  });
}
