// The page: the case that is shown, its panes and panels, the keys, and the line at the bottom.

import { Problem, ask } from "./api.js";
import { clamp, make } from "./dom.js";
import { carried, lengthOf, spatialAxes } from "./geometry.js";
import { labelsPanel } from "./labels.js";
import { casesPanel, objectsPanel } from "./lists.js";
import { Pane } from "./pane.js";
import { boxOnImage, image, inside, middleOf, scene, volumeOfObject } from "./scene.js";
import { change, onChange, saved, state } from "./state.js";
import { Status } from "./status.js";
import { onTile } from "./tiles.js";
import { buildToolbar, choosePreset, moveTime } from "./toolbar.js";
import { drawn, imageOfDraws, windowBoxes, windowsPanel } from "./windows.js";

const planes = document.getElementById("planes");
const help = document.getElementById("help");
let panes = [];
let active = null;

const status = new Status(document.getElementById("status"));
const current = () => state.case;
const panels = {
  cases: { title: "Cases", ...casesPanel({ openCase, current }) },
  objects: { title: "Objects", ...objectsPanel({ jump: jumpToObject, current }) },
  labels: { title: "Labels", ...labelsPanel() },
  windows: { title: "Windows", ...windowsPanel({ go: jumpToWindow }) },
};

// Drawing happens once per frame, whatever changed; while tiles are late it is tried again.
let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (!scene.data) return;
    const boxes = windowBoxes();
    for (const pane of panes) pane.boxes = () => boxes;
    const busy = panes.map((pane) => pane.draw()).some(Boolean);
    status.problem(panes.map((pane) => pane.problem()).find(Boolean));
    if (busy) setTimeout(redraw, 60);
  });
}

onTile(redraw);
onChange(redraw);
onChange((patch) => {
  if ("maximised" in patch) arrange();
  if (scene.data && ["at", "t", "c"].some((name) => name in patch)) status.follow(null);
  if ("tab" in patch) showTab();
});

// The plane that gets most room: the first, unless it is a thin strip beside another.
function mainPane() {
  const [shown, first] = [image(), panes[0]];
  const pixels = ({ plane }) => lengthOf(shown, plane.rows) * lengthOf(shown, plane.columns);
  const largest = panes.reduce((best, pane) => (pixels(pane) > pixels(best) ? pane : best), first);
  return pixels(largest) > 2 * pixels(first) ? largest : first;
}

function arrange() {
  const names = panes.map((pane) => pane.plane.name);
  const alone = names.includes(state.maximised) ? state.maximised : names.length === 1 ? names[0] : "";
  planes.classList.toggle("alone", Boolean(alone));
  const main = mainPane();
  for (const pane of panes) {
    pane.root.hidden = Boolean(alone) && pane.plane.name !== alone;
    pane.root.classList.toggle("main-pane", pane === main);
  }
}

function buildPanes() {
  for (const pane of panes) pane.close();
  panes = image().planes.map((plane) => new Pane(plane, { tell: (index) => status.follow(index), boxes: () => [] }));
  planes.replaceChildren(...(panes.length ? panes.map((pane) => pane.root) : [
    make("p", { className: "empty", textContent: "This volume has fewer than two axes in space: there is no plane to show." })]));
  for (const pane of panes) pane.root.addEventListener("pointerenter", () => { active = pane; });
  active = panes[0] ?? null;
  arrange();
}

// Open a case, with what `kept` (of an address) says of the place.
async function openCase(name, kept = {}) {
  try {
    scene.data = await ask("case", { case: name });
  } catch (problem) {
    // A case that cannot be opened is named, and the one before stays.
    status.alert(problem);
    if (!scene.data) throw problem;
    return;
  }
  const labels = scene.data.labels.map((label) => label.name);
  const chosen = kept.labels ?? (state.labels?.some((label) => labels.includes(label)) ? state.labels : labels.slice(0, 1));
  Object.assign(state, { case: name, labels: chosen, hidden: kept.hidden ?? state.hidden });
  document.title = `${name} – ndvol view`;
  await openImage(kept.image ?? state.image, kept);
  for (const panel of Object.values(panels)) panel.reload();
}

async function openImage(name, kept = {}) {
  const before = image();
  const names = scene.data.images.map((volume) => volume.name);
  state.image = names.includes(name) ? name : names[0];
  const shown = image();
  const place = (index) => (index?.length === spatialAxes(shown).length ? index : null);
  const at = place(kept.at) ?? middleOf(shown);
  const t = Math.min(kept.t ?? state.t, shown.axes.includes("t") ? lengthOf(shown, "t") - 1 : 0);
  const c = Math.min(kept.c ?? 0, shown.axes.includes("c") ? lengthOf(shown, "c") - 1 : 0);
  scene.presets = await ask("presets", { case: scene.data.case, image: state.image }).catch((problem) => {
    status.alert(problem);
    return [{ name: "all", low: 0, high: 1 }];
  });
  const preset = scene.presets.find((found) => found.name === (kept.preset ?? state.preset)) ?? scene.presets[0];
  const range = kept.low < kept.high && !kept.preset ? { preset: "", low: kept.low, high: kept.high }
    : { preset: preset.name, low: preset.low, high: preset.high };
  buildPanes();
  status.reset();
  change({ image: state.image, at: inside(at), t: Math.max(0, t), c: Math.max(0, c), ...range,
    zoom: clamp(kept.zoom ?? 1, 0.2, 64), centre: place(kept.centre) ?? (before && kept.at ? at : centreOf(shown)) });
}

const centreOf = (volume) => spatialAxes(volume).map((axis) => (lengthOf(volume, axis) - 1) / 2);

// Another image of the same case, at the same place of the world.
async function chooseImage(name) {
  const from = image(), to = scene.data.images.find((volume) => volume.name === name);
  const at = carried(from, to, state.at), centre = carried(from, to, state.centre);
  await openImage(name, at ? { at, centre, zoom: state.zoom } : {});
}

function fit() {
  change({ zoom: 1, centre: centreOf(image()) });
}

// Go to a box: its middle in the middle of every plane, and large enough to be seen; the crosshair on `point` of it.
function goToBox(box, point = box.middle) {
  const shown = image(), axes = spatialAxes(shown);
  const share = Math.max(...axes.map((axis, k) => (box.corners[k][1] - box.corners[k][0]) / lengthOf(shown, axis)));
  const at = inside(point);
  const zoom = clamp(0.4 / share, 1, Math.max(6, state.zoom));
  const t = box.t && !(box.t[0] <= state.t && state.t < box.t[1]) ? box.t[0] : state.t;
  change({ at, centre: box.middle, zoom, t: shown.axes.includes("t") ? clamp(t, 0, lengthOf(shown, "t") - 1) : 0 });
}

function jumpToObject(row) {
  const box = boxOnImage(volumeOfObject(row), row);
  if (box) goToBox(box);
  else status.alert(new Problem(`It is not known where ${row.volume} lies in ${state.image}.`, "other-grid"));
}

async function jumpToWindow(window) {
  if (window.case !== scene.data.case) await openCase(window.case);
  const box = boxOnImage(imageOfDraws(), { axes: drawn.axes, ...window });
  if (!box) return;
  const point = window.point && boxOnImage(imageOfDraws(), {
    axes: drawn.axes, start: window.point, stop: window.point.map((v) => v + 1) });
  goToBox(box, point?.middle);
  if (point?.t) change({ t: point.t[0] });
}

function showTab() {
  const tab = panels[state.tab] ? state.tab : "objects";
  document.getElementById("panel").replaceChildren(panels[tab].root);
  document.querySelectorAll("#tabs button").forEach((button) =>
    button.setAttribute("aria-selected", button.dataset.tab === tab));
}

const KEYS = [
  ["↑ ↓, Page ↑ ↓", "one slice, ten slices, in the plane under the mouse", { ArrowUp: () => slices(1), ArrowDown: () => slices(-1),
    PageUp: () => slices(10), PageDown: () => slices(-10) }],
  ["← →", "one step in time", { ArrowLeft: () => moveTime(-1), ArrowRight: () => moveTime(1) }],
  ["1 … 9", "range of values", Object.fromEntries([..."123456789"].map((key, k) =>
    [key, () => scene.presets[k] && choosePreset(scene.presets[k].name)]))],
  ["o", "labels: both, fill, outline", { o: () => change({ style: { both: "fill", fill: "outline", outline: "both" }[state.style] }) }],
  ["l", "labels on and off", { l: () => change({ labels: state.labels.length ? [] : scene.data.labels.map(({ name }) => name) }) }],
  ["x", "crosshair on and off", { x: () => change({ cross: !state.cross }) }],
  ["n, p", "next window, the one before", { n: () => panels.windows.pick(state.picked + 1), p: () => panels.windows.pick(state.picked - 1) }],
  ["+ −", "larger, smaller", { "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8) }],
  ["f", "the whole volume", { f: fit }],
  ["h", "this list", { h: () => help.showModal() }],
];
const MOUSE = [
  ["click, drag", "crosshair: the other planes follow"], ["wheel", "slices"],
  ["right or shift + drag", "width and level"], ["middle or ctrl + drag", "pan"], ["ctrl + wheel", "zoom"],
  ["double click", "one plane alone"],
];
const ACTS = Object.assign({}, ...KEYS.map(([, , acts]) => acts));

function slices(steps) {
  active?.goTo(active.at() + steps);
}

function zoom(factor) {
  change({ zoom: clamp(state.zoom * factor, 0.2, 64) });
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !ACTS[event.key] || !scene.data) return;
  event.preventDefault();
  ACTS[event.key]();
});

function buildHelp() {
  const line = ([keys, text]) => make("tr", {}, make("th", { textContent: keys }), make("td", { textContent: text }));
  help.replaceChildren(
    make("h2", { textContent: "Mouse" }), make("table", {}, ...MOUSE.map(line)),
    make("h2", { textContent: "Keys" }), make("table", {}, ...KEYS.map(line)),
    make("button", { className: "main", textContent: "Close", onclick: () => help.close() }));
}

async function start() {
  buildHelp();
  buildToolbar(document.getElementById("toolbar"), { chooseImage, fit, help: () => help.showModal() });
  document.getElementById("tabs").replaceChildren(...Object.entries(panels).map(([tab, { title }]) =>
    make("button", { textContent: title, role: "tab", data: { tab }, onclick: () => change({ tab }) })));
  scene.bundle = await ask("bundle");
  const { case: name = scene.bundle.case, ...kept } = saved();
  const { tab, style, opacity, maximised, cross, draw = null, picked = -1 } = kept;
  const looks = Object.entries({ tab, style, opacity, maximised, cross, draw, picked });
  Object.assign(state, Object.fromEntries(looks.filter(([, value]) => value !== undefined)));
  showTab();
  await openCase(name, kept);
}

start().catch((problem) => status.alert(problem));
