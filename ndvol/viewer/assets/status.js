// The line at the bottom: the voxel under the cursor, or under the crosshair, as it is stored; and what went wrong.

import { ask } from "./api.js";
import { make } from "./dom.js";
import { lengthOf, spatialAxes } from "./geometry.js";
import { image, scene } from "./scene.js";
import { state } from "./state.js";

export class Status {
  constructor(root) {
    this.voxel = make("span", { className: "voxel" });
    this.world = make("span", { className: "world" });
    this.value = make("span", { className: "value" });
    this.labels = make("span", { className: "labels" });
    this.trouble = make("span", { className: "trouble", role: "alert" });
    root.replaceChildren(this.voxel, this.world, this.value, this.labels, make("span", { className: "stretch" }), this.trouble);
    this.reset();
  }

  reset() {
    this.wanted = null;
    this.asking = false;
    this.alerted = null;
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
      const at = this.wanted, shown = image();
      this.wanted = null;
      const others = Object.fromEntries(["t", "c"].filter((axis) => shown.axes.includes(axis) && !(axis === "c" && shown.colour))
        .map((axis) => [axis, state[axis]]));
      try {
        this.show(shown, at, others, await ask("voxel", { case: scene.data.case, image: shown.name, at, ...others }));
      } catch (problem) {
        this.value.textContent = "cannot be read";
        this.labels.textContent = "";
        this.alert(problem);
      }
    }
    this.asking = false;
  }

  show(shown, at, others, { values, world, labels }) {
    const index = [...spatialAxes(shown).map((axis, k) => `${axis} ${at[k]}`),
      ...Object.entries(others).map(([axis, v]) => `${axis} ${v}`)];
    this.voxel.textContent = index.join("  ");
    const unit = shown.unit === "unknown" ? "" : ` ${shown.unit === "um" ? "µm" : shown.unit}`;
    this.world.textContent = shown.unit === "unknown" ? "" :
      `${world.map((v, k) => `${"xyz"[k]} ${v.toFixed(1)}`).join("  ")}${unit}${shown.frame === "LPS" ? " LPS" : ""}`;
    this.value.textContent = `${values.join(", ")}${shown.value_unit ? ` ${shown.value_unit}` : ""}`;
    const named = Object.entries(labels).filter(([, { value }]) => value !== "0");
    this.labels.textContent = named.map(([name, { value, category }]) =>
      `${name}: ${category || "no name"} (${value})`).join("  ");
  }

  alert(problem) {
    this.alerted = problem;
    this.problem(null);
  }

  // What is wrong in sight, else what went wrong last.
  problem(problem) {
    const told = (problem ?? this.alerted)?.message ?? "";
    if (this.trouble.textContent !== told) this.trouble.textContent = this.trouble.title = told;
  }
}
