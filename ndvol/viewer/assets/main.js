// The page: the case that is shown, its panes and panels, the keys, and the line at the bottom.

import { Problem, ask } from "./api.js";
import { clamp, make } from "./dom.js";
import { carried, lengthOf, spatialAxes } from "./geometry.js";
import { listenToKeys } from "./keys.js";
import { labelsPanel } from "./labels.js";
import { casesPanel, objectsPanel } from "./lists.js";
import { Pane } from "./pane.js";
import { boxOnImage, image, inside, middleOf, scene, volumeOfObject } from "./scene.js";
import { change, onChange, saved, state } from "./state.js";
import { Status } from "./status.js";
import { onTile } from "./tiles.js";
import { buildToolbar } from "./toolbar.js";
import { drawn, imageOfDraws, windowBoxes, windowsPanel } from "./windows.js";

const planes = document.getElementById("planes");
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
  if (!panes.length) return;
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
  planes.replaceChildren(...panes.map((pane) => pane.root));
  if (!panes.length) {
    const why = "This volume has fewer than two axes in space: there is no plane to show.";
    planes.append(make("p", { className: "empty", textContent: why }));
  }
  for (const pane of panes)
    pane.root.addEventListener("pointerenter", () => {
      active = pane;
    });
  active = panes[0] ?? null;
  arrange();
}

// Open a case, with what `kept` (of an address) says of the place. One that cannot be opened is named, and the one
// before stays; of two that are asked for in haste the later counts.
let opening = 0;
async function openCase(name, kept = {}) {
  const ticket = (opening += 1);
  try {
    const data = await ask("case", { case: name });
    const names = data.images.map((volume) => volume.name);
    const shown = [kept.image, state.image].find((found) => names.includes(found)) ?? names[0];
    const presets = await ask("presets", { case: name, image: shown });
    if (ticket !== opening) return;
    Object.assign(scene, { data, presets });
    const labels = data.labels.map((label) => label.name);
    const chosen =
      kept.labels ?? (state.labels?.some((label) => labels.includes(label)) ? state.labels : labels.slice(0, 1));
    Object.assign(state, { case: name, labels: chosen, hidden: kept.hidden ?? state.hidden });
    document.title = `${name} – ndvol view`;
    document.body.classList.remove("empty");
    showImage(shown, kept);
    for (const panel of Object.values(panels)) panel.reload();
  } catch (problem) {
    status.alert(problem);
  }
}

// Another image of the same case, at the same place of the world.
async function chooseImage(name) {
  const ticket = (opening += 1),
    { data } = scene;
  try {
    const presets = await ask("presets", { case: data.case, image: name });
    if (ticket !== opening) return;
    const from = image(),
      to = data.images.find((volume) => volume.name === name);
    const at = carried(from, to, state.at),
      centre = carried(from, to, state.centre);
    scene.presets = presets;
    showImage(name, at ? { at, centre, zoom: state.zoom } : {});
  } catch (problem) {
    status.alert(problem);
  }
}

// Put an image of the case that is loaded on the screen; `kept` may say where, and how bright.
function showImage(name, kept) {
  state.image = name;
  const shown = image();
  const place = (index) => (index?.length === spatialAxes(shown).length ? index : null);
  const last = (axis) => (shown.axes.includes(axis) ? lengthOf(shown, axis) - 1 : 0);
  const preset = scene.presets.find((found) => found.name === (kept.preset ?? state.preset)) ?? scene.presets[0];
  const own = kept.low < kept.high && !kept.preset;
  state.at = inside(place(kept.at) ?? middleOf(shown));
  state.centre = place(kept.centre) ?? (kept.at ? [...state.at] : centreOf(shown));
  buildPanes();
  status.reset();
  change({
    image: name,
    at: state.at,
    zoom: clamp(kept.zoom ?? 1, 0.2, 64),
    t: clamp(kept.t ?? state.t, 0, last("t")),
    c: clamp(kept.c ?? 0, 0, last("c")),
    preset: own ? "" : preset.name,
    low: own ? kept.low : preset.low,
    high: own ? kept.high : preset.high,
  });
}

const centreOf = (volume) => spatialAxes(volume).map((axis) => (lengthOf(volume, axis) - 1) / 2);

function fit() {
  change({ zoom: 1, centre: centreOf(image()) });
}

// Go to a box: its middle in the middle of every plane, and large enough to be seen; the crosshair on `point` of it.
function goToBox(box, point = box.middle) {
  const shown = image(),
    axes = spatialAxes(shown);
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
  const point =
    window.point &&
    boxOnImage(imageOfDraws(), {
      axes: drawn.axes,
      start: window.point,
      stop: window.point.map((v) => v + 1),
    });
  goToBox(box, point?.middle);
  if (point?.t) change({ t: point.t[0] });
}

function showTab() {
  const tab = panels[state.tab] ? state.tab : "objects";
  document.getElementById("panel").replaceChildren(panels[tab].root);
  document
    .querySelectorAll("#tabs button")
    .forEach((button) => button.setAttribute("aria-selected", button.dataset.tab === tab));
}

function slices(steps) {
  active?.goTo(active.at() + steps);
}

function zoom(factor) {
  change({ zoom: clamp(state.zoom * factor, 0.2, 64) });
}

async function start() {
  const help = listenToKeys(document.getElementById("help"), {
    slices,
    zoom,
    fit,
    window: (steps) => panels.windows.pick(state.picked + steps),
  });
  buildToolbar(document.getElementById("toolbar"), { chooseImage, fit, help });
  document
    .getElementById("tabs")
    .replaceChildren(
      ...Object.entries(panels).map(([tab, { title }]) =>
        make("button", { textContent: title, role: "tab", data: { tab }, onclick: () => change({ tab }) }),
      ),
    );
  scene.bundle = await ask("bundle");
  const { case: name = scene.bundle.case, ...kept } = saved();
  const { tab, style, opacity, maximised, cross, draw = null, picked = -1 } = kept;
  const looks = Object.entries({ tab, style, opacity, maximised, cross, draw, picked });
  Object.assign(state, Object.fromEntries(looks.filter(([, value]) => value !== undefined)));
  showTab();
  await openCase(name, kept);
  // The address may be of another bundle.
  if (!scene.data && name !== scene.bundle.case) await openCase(scene.bundle.case);
}

start().catch((problem) => status.alert(problem));
