// One plane on the screen: the picture, what is drawn over it, and the mouse.

import { SAME, fitScale, frameOf, lengthOf, spatialAxes } from "./geometry.js";
import { clamp, make } from "./dom.js";
import { AXIS_COLOURS, drawBoxes, drawCross, drawLayer, drawScale, lookOf } from "./drawing.js";
import { Layer } from "./layer.js";
import { image, inside, mapOf, scene, shownLabels } from "./scene.js";
import { change, state } from "./state.js";

const MARGIN = 0.94;

export class Pane {
  // `tell` gets the voxel under the cursor, or null when it leaves; `boxes` gives the windows to draw.
  constructor(plane, { tell, boxes }) {
    Object.assign(this, { plane, tell, boxes });
    this.layers = new Map();
    this.canvas = make("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("aria-label", `${this.title()} plane`);
    this.where = make("span", { className: "where" });
    this.detail = make("span", { className: "detail" });
    this.slider = make("input", {
      type: "range", min: 0, max: Math.max(0, this.length() - 1), step: 1, className: "slices",
      oninput: () => this.goTo(Number(this.slider.value)),
    });
    this.slider.setAttribute("aria-label", `${this.title()} slice`);
    this.slider.hidden = !plane.across;
    const dot = make("span", { className: "dot" });
    dot.style.background = AXIS_COLOURS[plane.across] ?? "#98a2ad";
    const grow = make("button", { className: "grow", title: "Enlarge or restore (double click)", textContent: "⤢",
      onclick: () => this.toggle() });
    this.root = make("section", { className: "pane", data: { plane: plane.name } },
      this.canvas,
      make("div", { className: "title" }, dot, make("b", { textContent: this.title() }), this.where, this.detail),
      grow,
      ...Object.entries(plane.letters).map(([side, letters]) =>
        make("span", { className: `letters ${side}`, textContent: letters })),
      this.slider);
    this.listen();
    this.watch = new ResizeObserver(() => change({}));
    this.watch.observe(this.root);
  }

  close() {
    this.watch.disconnect();
    for (const layer of this.layers.values()) layer.close();
    this.root.remove();
  }

  title() {
    const { name } = this.plane;
    return /^[zyx]+$/.test(name) ? `${name[0]} – ${name[1]}` : name[0].toUpperCase() + name.slice(1);
  }

  length() {
    return this.plane.across ? lengthOf(image(), this.plane.across) : 1;
  }

  // Position of an axis of the plane among those of the voxel's index.
  place(axis) {
    return spatialAxes(image()).indexOf(axis);
  }

  at() {
    return this.plane.across ? state.at[this.place(this.plane.across)] : 0;
  }

  goTo(at) {
    if (!this.plane.across) return;
    const place = this.place(this.plane.across), slice = clamp(at, 0, this.length() - 1);
    const moved = (values) => values.map((v, k) => (k === place ? slice : v));
    change({ at: moved(state.at), centre: moved(state.centre) });
  }

  // Slices by which the wheel moves: coarse levels and small scales show no less.
  stride() {
    const shown = this.layers.get("image")?.shown;
    if (!shown || !this.plane.across) return 1;
    return image().levels[shown.spec.level].factor[image().axes.indexOf(this.plane.across)];
  }

  toggle() {
    change({ maximised: state.maximised === this.plane.name ? "" : this.plane.name });
  }

  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    return MARGIN * fitScale(image(), this.plane, Math.max(clientWidth, 1), Math.max(clientHeight - 44, 1));
  }

  frame() {
    const { clientWidth, clientHeight } = this.canvas;
    return frameOf(image(), this.plane, state.centre, this.fit() * state.zoom, clientWidth, clientHeight);
  }

  // The continuous index under a point of the screen; on the axis across it is the plane's.
  indexUnder({ offsetX, offsetY }) {
    const corner = this.frame().inverse().transformPoint({ x: offsetX, y: offsetY });
    const index = [...state.at];
    index[this.place(this.plane.columns)] = corner.x - 0.5;
    index[this.place(this.plane.rows)] = corner.y - 0.5;
    return index;
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.toggle());
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => { this.drag = null; });
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("pointerleave", () => this.tell(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  press(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const grey = event.button === 2 || (event.button === 0 && event.shiftKey);
    const pan = event.button === 1 || (event.button === 0 && (event.ctrlKey || event.altKey || event.metaKey));
    this.drag = { kind: grey ? "grey" : pan ? "pan" : "point", x: event.clientX, y: event.clientY };
    Object.assign(this.drag, { low: state.low, high: state.high, centre: state.centre, frame: this.frame() });
    if (this.drag.kind === "pan") event.preventDefault();
    if (this.drag.kind === "point") this.point(event);
  }

  move(event) {
    this.tell(this.indexUnder(event).map(Math.round));
    if (!this.drag) return;
    const right = event.clientX - this.drag.x, down = event.clientY - this.drag.y;
    if (this.drag.kind === "point") this.point(event);
    if (this.drag.kind === "grey") this.window(right, down);
    if (this.drag.kind === "pan") {
      const back = this.drag.frame.inverse();
      const [from, to] = [back.transformPoint({ x: 0, y: 0 }), back.transformPoint({ x: right, y: down })];
      const centre = [...this.drag.centre];
      centre[this.place(this.plane.columns)] -= to.x - from.x;
      centre[this.place(this.plane.rows)] -= to.y - from.y;
      change({ centre });
    }
  }

  point(event) {
    change({ at: inside(this.indexUnder(event)) });
  }

  // To the right wider, down brighter; the whole range of the image is 600 pixels.
  window(right, down) {
    const { low, high } = this.drag;
    const all = scene.presets.find(({ name }) => name === "all") ?? { low, high };
    const unit = Math.max(all.high - all.low, 1e-6) / 600;
    const width = Math.max(high - low + right * unit, unit / 100), level = (high + low) / 2 - down * unit;
    change({ low: level - width / 2, high: level + width / 2, preset: "" });
  }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      this.zoom(Math.exp(-event.deltaY / 300), event);
      return;
    }
    // Touch pads send many small movements, wheels few large ones.
    this.rolled = (this.rolled ?? 0) + event.deltaY * (event.deltaMode ? 40 : 1);
    const steps = Math.trunc(this.rolled / 40);
    if (steps) {
      this.rolled -= steps * 40;
      this.goTo(this.at() + Math.sign(steps) * Math.min(Math.abs(steps), 3) * this.stride());
    }
  }

  // Zoom about a point of the screen, which keeps its place.
  zoom(factor, event) {
    const zoom = clamp(state.zoom * factor, 0.2, 64), ratio = state.zoom / zoom;
    const fixed = this.indexUnder(event);
    const centre = state.centre.map((v, k) => {
      const axis = spatialAxes(image())[k];
      return axis === this.plane.across ? v : fixed[k] + (v - fixed[k]) * ratio;
    });
    change({ zoom, centre });
  }

  // The layers that the state asks for, those that are there already kept.
  layersNow() {
    const wanted = new Map([["image", [image(), "images", SAME]]]);
    for (const label of shownLabels()) wanted.set(`label ${label.name}`, [label, "labels", mapOf(label)]);
    for (const [name, layer] of this.layers) {
      if (wanted.get(name)?.[0] !== layer.volume) {
        layer.close();
        this.layers.delete(name);
      }
    }
    const found = new Map();
    for (const [name, facts] of wanted) found.set(name, this.layers.get(name) ?? new Layer(...facts));
    this.layers = found;
    for (const [name, [, , map]] of wanted) found.get(name).map = map;
    return found;
  }

  // Draw everything; returns whether tiles are still on their way.
  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas, pixelRatio = devicePixelRatio || 1;
    if (!width || !height) return false;
    if (this.canvas.width !== Math.round(width * pixelRatio) || this.canvas.height !== Math.round(height * pixelRatio)) {
      this.canvas.width = Math.round(width * pixelRatio);
      this.canvas.height = Math.round(height * pixelRatio);
    }
    const frame = this.frame();
    const view = { case: scene.data.case, key: scene.data.key, plane: this.plane, at: this.at(),
      others: { t: state.t, c: state.c }, frame, width, height, pixelRatio };
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    let busy = false;
    for (const layer of this.layersNow().values()) {
      layer.update(view, lookOf(layer));
      busy ||= layer.busy;
      if (layer.shown) drawLayer(context, layer, frame, pixelRatio);
    }
    context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
    drawBoxes(context, this, frame);
    if (state.cross) drawCross(context, this, frame, width, height);
    drawScale(context, image().unit, this.fit() * state.zoom, height);
    this.describe(busy);
    return busy;
  }

  describe(busy) {
    const shown = this.layers.get("image").shown;
    this.where.textContent = this.plane.across ? `${this.plane.across} ${this.at()} / ${this.length() - 1}` : "";
    const { level = 0, step = 1 } = shown?.spec ?? {};
    const notes = [level ? `level ${level}` : "", step > 1 ? `1 voxel in ${step}` : "", busy ? "loading" : ""];
    this.detail.textContent = notes.filter(Boolean).join(", ");
    this.slider.value = this.at();
    Object.assign(this.root.dataset, { at: this.at(), level, step, busy: busy ? "1" : "0" });
  }

  // What is wrong with tiles in sight; the first of them.
  problem() {
    for (const layer of this.layers.values()) {
      const bad = layer.shown?.bad?.[0];
      if (bad) return bad.problem;
    }
    return null;
  }
}
