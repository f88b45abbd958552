// Where voxels lie: on the screen, in the world, and in the grid of another volume of the case.
// Indices are of voxel centres; "corner" coordinates are those of the box, where voxel i reaches from i to i + 1.

export const spatialAxes = (volume) => [...volume.axes].filter((axis) => "zyx".includes(axis));

export const lengthOf = (volume, axis) => volume.shape[volume.axes.indexOf(axis)] ?? 1;

export function worldOf(volume, index) {
  return volume.affine.slice(0, -1).map((row) => row.reduce((sum, v, k) => sum + v * (index[k] ?? 1), 0));
}

export function indexOf(volume, world) {
  return volume.inverse.slice(0, -1).map((row) => row.reduce((sum, v, k) => sum + v * (world[k] ?? 1), 0));
}

// The index in `to` of an index in `from`; null where that is not known.
export function carried(from, to, index) {
  const same = from.shape.join() === to.shape.join() && from.axes === to.axes;
  const close = same && from.affine.flat().every((v, k) => Math.abs(v - to.affine.flat()[k]) < 1e-6);
  if (close) return index;
  return from.frame === "LPS" && to.frame === "LPS" ? indexOf(to, worldOf(from, index)) : null;
}

export const SAME = { scale: { z: 1, y: 1, x: 1 }, offset: { z: 0, y: 0, x: 0 } };

// The server's map of image indices to those of `volume`, by axis.
export function namedMap(volume, map) {
  const axes = spatialAxes(volume);
  const named = (values) => Object.fromEntries(axes.map((axis, k) => [axis, values[k]]));
  return map && { scale: named(map.scale), offset: named(map.offset) };
}

// Corner coordinates c of the image are scale * c + shift in the other volume.
export const cornerShift = (map, axis) => map.offset[axis] + (1 - map.scale[axis]) / 2;

// Pixels per unit at which a plane of `image` fits a box of the screen.
export function fitScale(image, plane, width, height) {
  const rows = lengthOf(image, plane.rows), columns = lengthOf(image, plane.columns);
  const extent = (k) => Math.abs(plane.row_step[k]) * rows + Math.abs(plane.column_step[k]) * columns;
  return Math.min(width / extent(0), height / extent(1));
}

// The matrix from corner coordinates (column, row) of the image to pixels, with `centre` in the middle of the screen.
export function frameOf(image, plane, centre, scale, width, height) {
  const axes = spatialAxes(image);
  const column = centre[axes.indexOf(plane.columns)] + 0.5, row = centre[axes.indexOf(plane.rows)] + 0.5;
  const [a, b] = plane.column_step.map((v) => v * scale);
  const [c, d] = plane.row_step.map((v) => v * scale);
  return new DOMMatrix([a, b, c, d, width / 2 - a * column - c * row, height / 2 - b * column - d * row]);
}

// The coarsest samples that still give a pixel each: a level, and a step within it along rows and columns.
export function samplingOf(volume, plane, pixels) {
  const at = (axis) => volume.axes.indexOf(axis);
  const enough = (factor, axis) => factor[at(axis)] * pixels[axis] <= 1 || factor[at(axis)] === 1;
  const both = [plane.rows, plane.columns];
  let level = volume.levels.length - 1;
  while (level > 0 && !both.every((axis) => enough(volume.levels[level].factor, axis))) level -= 1;
  const factor = volume.levels[level].factor;
  const step = (axis) => {
    const fitting = Math.floor(Math.log2(1 / (factor[at(axis)] * pixels[axis])));
    return 2 ** Math.min(Math.max(fitting, 0), 10);
  };
  return { level, rowStep: step(plane.rows), columnStep: step(plane.columns), factor };
}
