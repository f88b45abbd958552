// The line at the bottom: the voxel under the cursor, or under the crosshair, as it is stored; and what went wrong.

import { ask } from "./api.js";
import { make } from "./dom.js";
import { lengthOf, spatialAxes, unitName } from "./geometry.js";
import { image, scene } from "./scene.js";
import { state } from "./state.js";

export class Status {
  constructor(root) {
    this.voxel = make("span", { className: "voxel" });
    this.world = make("span", { className: "world" });
    this.value = make("span", { className: "value" });
    this.labels = make("span", { className: "labels" });
    this.trouble = make("span", { className: "trouble", role: "alert" });
    root.replaceChildren(this.voxel, this.world, this.value, this.labels, this.trouble);
    this.asking = false;
    this.reset();
  }

  // Another image: what was asked of the one before does not matter any more.
  reset() {
    this.wanted = null;
    this.alerted = this.inSight = null;
  }

  // Show the voxel at `index`, or at the crosshair when it is null or outside the image.
  follow(index) {
    const shown = image();
    const within = index?.every((v, k) => v >= 0 && v < lengthOf(shown, spatialAxes(shown)[k]));
    this.wanted = within ? index : state.at;
    if (!this.asking) this.ask();
  }

  // One question at a time, always the latest.
  async ask() {
    this.asking = true;
    while (this.wanted) {
      const at = this.wanted,
        shown = image();
      this.wanted = null;
      const others = Object.fromEntries(
        ["t", "c"]
          .filter((axis) => shown.axes.includes(axis) && !(axis === "c" && shown.colour))
          .map((axis) => [axis, state[axis]]),
      );
      const places = spatialAxes(shown).map((axis, k) => `${axis} ${at[k]}`);
      const rest = Object.entries(others).map(([axis, v]) => `${axis} ${v}`);
      this.voxel.textContent = [...places, ...rest].join("  ");
      try {
        const facts = await ask("voxel", { case: scene.data.case, image: shown.name, at, ...others });
        if (shown === image()) this.show(shown, facts);
        this.alert(null);
      } catch (problem) {
        this.value.textContent = "cannot be read";
        this.world.textContent = this.labels.textContent = "";
        this.alert(problem);
      }
    }
    this.asking = false;
  }

  show(shown, { values, world, labels }) {
    const place = world.map((v, k) => `${"xyz"[k]} ${v.toFixed(1)}`).join("  ");
    const frame = shown.frame === "LPS" ? " LPS" : "";
    this.world.textContent = unitName(shown) && `${place} ${unitName(shown)}${frame}`;
    this.value.textContent = `${values.join(", ")}${shown.value_unit ? ` ${shown.value_unit}` : ""}`;
    const named = Object.entries(labels).filter(([, { value }]) => value !== "0");
    this.labels.textContent = named
      .map(([name, { value, category }]) => `${name}: ${category || "no name"} (${value})`)
      .join("  ");
  }

  // Something went wrong, or (null) goes well again.
  alert(problem) {
    this.alerted = problem;
    this.tell();
  }

  // What is wrong with the planes in sight; it comes before what went wrong last.
  problem(problem) {
    this.inSight = problem;
    this.tell();
  }

  tell() {
    const told = (this.inSight ?? this.alerted)?.message ?? "";
    if (this.trouble.textContent !== told) this.trouble.textContent = this.trouble.title = told;
  }
}
