// The case that is shown, as the server told it, and what follows from it and from the state.

import { carried, lengthOf, namedMap, spatialAxes } from "./geometry.js";
import { clamp } from "./dom.js";
import { state } from "./state.js";

export const scene = { bundle: null, data: null, presets: [] };

export const image = () => scene.data?.images.find(({ name }) => name === state.image) ?? null;

export const mapOf = (label) => namedMap(label, label.maps[state.image]);

// The label volumes that are drawn over the image, by the user's choice and where their place is known.
export function shownLabels() {
  return scene.data.labels.filter((label) => state.labels.includes(label.name) && mapOf(label));
}

// The volume in whose voxels an object's box is: its label volume, or for a box without one the first image.
export const volumeOfObject = ({ volume }) =>
  scene.data.labels.find(({ name }) => name === volume) ?? scene.data.images[0];

export const middleOf = (volume) =>
  spatialAxes(volume).map((axis) => Math.floor((lengthOf(volume, axis) - 1) / 2));

// A place inside the image, as whole voxels.
export function inside(index) {
  const shown = image();
  return spatialAxes(shown).map((axis, k) => clamp(Math.round(index[k]), 0, lengthOf(shown, axis) - 1));
}

// A box over the axes of a record or sampler, in voxels of the volume `from`, as one over the image's spatial axes:
// its corners, its times, and the voxel in its middle. Null where the volume's place is not known.
export function boxOnImage(from, { axes, start, stop }) {
  const to = image(), names = spatialAxes(to);
  const at = (values, axis) => values[[...axes].indexOf(axis)];
  const spans = names.map((axis) =>
    ([...axes].includes(axis) ? [at(start, axis), at(stop, axis)] : [0, lengthOf(to, axis)]));
  const t = [...axes].includes("t") ? [at(start, "t"), at(stop, "t")] : null;
  const edge = (side) => carried(from, to, spans.map((span) => span[side] - 0.5));
  const [low, high] = [edge(0), edge(1)];
  if (!low) return null;
  const corners = names.map((_, k) => [Math.min(low[k], high[k]) + 0.5, Math.max(low[k], high[k]) + 0.5]);
  const middle = carried(from, to, spans.map(([a, b]) => Math.floor((a + b - 1) / 2)));
  return { corners, t, middle: inside(middle) };
}
