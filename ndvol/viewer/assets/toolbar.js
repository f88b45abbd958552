// The bar on top: which image, how bright, which time and channel, and the whole of it.

import { clamp, count, make, times } from "./dom.js";
import { lengthOf } from "./geometry.js";
import { image, scene } from "./scene.js";
import { change, onChange, state } from "./state.js";

export function buildToolbar(root, { chooseImage, fit, help }) {
  const name = make("b", { className: "case" });
  const facts = make("span", { className: "facts" });
  const images = make("select", { title: "Image", onchange: () => chooseImage(images.value) });
  const presets = make("select", { title: "Range of values (keys 1 to 9)", onchange: () => choosePreset(presets.value) });
  const level = field("Level", () => setWindow());
  const width = field("Width", () => setWindow());
  const axes = { t: axis("t"), c: axis("c") };
  const button = (textContent, title, onclick) => make("button", { textContent, title, onclick });
  root.replaceChildren(
    make("span", { className: "brand", textContent: "ndvol" }), name, facts, make("span", { className: "stretch" }),
    axes.t.root, axes.c.root, images, presets, level.root, width.root,
    button("Fit", "Show the whole volume (f)", fit), button("?", "Keys and mouse (h)", help));

  function setWindow() {
    const [centre, extent] = [Number(level.input.value), Number(width.input.value)];
    if (Number.isFinite(centre) && extent > 0) {
      change({ low: centre - extent / 2, high: centre + extent / 2, preset: "" });
    }
  }

  onChange(() => {
    const shown = image();
    if (!shown) return;
    name.textContent = name.title = scene.data.case;
    const unit = shown.unit === "unknown" ? "" : ` ${shown.unit === "um" ? "µm" : shown.unit}`;
    facts.textContent = `${times(shown.shape)} voxels · ${shown.unit === "unknown" ? "steps unknown" : times(shown.spacing) + unit}`;
    facts.title = `${[...shown.axes].join(" × ")}, ${shown.dtype}, ${count(shown.shape.reduce((a, b) => a * b, 1))} voxels`;
    options(images, scene.data.images.map((volume) => volume.name), state.image);
    images.hidden = scene.data.images.length < 2;
    options(presets, [...scene.presets.map((preset) => preset.name), ...(state.preset ? [] : ["own range"])],
      state.preset || "own range");
    for (const node of [presets, level.root, width.root]) node.hidden = shown.colour;
    level.show((state.low + state.high) / 2);
    width.show(state.high - state.low);
    for (const [axis, { root: node, input, text }] of Object.entries(axes)) {
      const length = shown.axes.includes(axis) && !(axis === "c" && shown.colour) ? lengthOf(shown, axis) : 1;
      node.hidden = length < 2;
      input.max = length - 1;
      input.value = state[axis];
      text.textContent = `${axis} ${state[axis]} / ${length - 1}`;
    }
  });
}

export function choosePreset(name) {
  const preset = scene.presets.find((found) => found.name === name);
  if (preset) change({ preset: preset.name, low: preset.low, high: preset.high });
}

export function moveTime(steps) {
  const shown = image();
  if (shown.axes.includes("t")) change({ t: clamp(state.t + steps, 0, lengthOf(shown, "t") - 1) });
}

function field(name, act) {
  const input = make("input", { type: "text", inputMode: "decimal", size: 6, onchange: act });
  input.setAttribute("aria-label", name);
  const show = (value) => { if (document.activeElement !== input) input.value = +value.toPrecision(5); };
  return { root: make("label", { className: "field" }, make("span", { textContent: name }), input), input, show };
}

function axis(name) {
  const text = make("span");
  const input = make("input", { type: "range", min: 0, step: 1, oninput: () => change({ [name]: Number(input.value) }) });
  input.setAttribute("aria-label", `Index on axis ${name}`);
  return { root: make("label", { className: "axis" }, text, input), input, text };
}

function options(select, names, chosen) {
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name })));
  }
  select.value = chosen;
}
