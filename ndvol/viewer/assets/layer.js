// A volume on one plane: which samples it needs, and the picture that is put together from their tiles.

import { cornerShift, lengthOf, samplingOf } from "./geometry.js";
import { outlines, packed, paintColour, paintGrey, paintLabels } from "./paint.js";
import { TILE, release, tileAt, tileUrl, want } from "./tiles.js";

const PATIENCE = 200; // ms that the plane before stays when tiles are late, so that scrolling does not flicker

export class Layer {
  constructor(volume, folder, map) {
    Object.assign(this, { volume, folder, map });
    this.shown = null;
    this.waiting = null;
    this.busy = false;
  }

  close() {
    release(this);
  }

  // Bring the picture up to date. `view` has case, key, plane, at, others, frame, width, height and pixelRatio;
  // `look` says how samples are painted. Draws nothing.
  update(view, look) {
    const spec = this.specOf(view);
    if (spec === null) {
      this.shown = this.waiting = null;
      this.busy = false;
      release(this);
      return;
    }
    if (this.shown?.spec.key === spec.key) this.waiting = null;
    else if (this.waiting?.key !== spec.key) this.waiting = { ...spec, since: performance.now() };
    const current = this.waiting ?? this.shown.spec;
    this.busy = arrived(current) < current.tiles.length;
    want(this, this.busy ? current.tiles : []);
    if (this.waiting && (!this.busy || performance.now() - this.waiting.since > PATIENCE)) {
      this.shown = { spec: this.waiting, arrived: -1 };
      this.waiting = null;
    }
    if (this.shown && (this.shown.arrived !== arrived(this.shown.spec) || this.shown.look !== look.key)) {
      Object.assign(this.shown, this.folder === "labels" ? this.labelled(look) : this.grey(look));
      Object.assign(this.shown, { look: look.key, arrived: arrived(this.shown.spec) });
    }
  }

  // What the view needs of the volume: tiles of a level, the nearest to the middle first. Null where the volume does
  // not reach.
  specOf(view) {
    const { volume, map } = this,
      { plane } = view;
    const across = plane.across ? Math.round(map.scale[plane.across] * view.at + map.offset[plane.across]) : 0;
    if (plane.across && !(across >= 0 && across < lengthOf(volume, plane.across))) return null;
    const axes = { column: plane.columns, row: plane.rows };
    const sampling = samplingOf(volume, plane, this.pixels(view));
    const factor = (axis) => sampling.factor[volume.axes.indexOf(axis)];
    const size = {
      column: sampling.columnStep * factor(axes.column),
      row: sampling.rowStep * factor(axes.row),
    };
    const rows = this.tileRange(view, axes.row, "y", size.row);
    const columns = this.tileRange(view, axes.column, "x", size.column);
    const fixed = {
      case: view.case,
      key: view.key,
      volume: `${this.folder}/${volume.name}`,
      level: sampling.level,
      across: plane.across,
      at: plane.across ? Math.floor(across / factor(plane.across)) : 0,
      steps: [sampling.rowStep, sampling.columnStep],
      ...this.others(view.others),
    };
    const tiles = tilesBetween(rows, columns).map(([row, column]) => ({
      row,
      column,
      type: volume.wire,
      url: tileUrl({ ...fixed, tile: [row, column] }),
    }));
    const step = Math.max(sampling.rowStep, sampling.columnStep);
    return {
      key: JSON.stringify([fixed, rows, columns]),
      tiles,
      rows,
      columns,
      size,
      axes,
      level: sampling.level,
      step,
    };
  }

  // Pixels of the screen per voxel of the volume, by axis.
  pixels({ plane, frame, pixelRatio }) {
    return {
      [plane.columns]: (Math.hypot(frame.a, frame.b) * pixelRatio) / this.map.scale[plane.columns],
      [plane.rows]: (Math.hypot(frame.c, frame.d) * pixelRatio) / this.map.scale[plane.rows],
    };
  }

  // First and last tile in sight along an axis whose samples stand for `size` voxels.
  tileRange({ frame, width, height }, axis, along, size) {
    const back = frame.inverse();
    const reach = [0, width].flatMap((x) =>
      [0, height].map((y) => {
        const corner = back.transformPoint({ x, y })[along];
        return (this.map.scale[axis] * corner + cornerShift(this.map, axis)) / size / TILE;
      }),
    );
    const last = Math.ceil(lengthOf(this.volume, axis) / size / TILE) - 1;
    return [Math.max(0, Math.floor(Math.min(...reach))), Math.min(last, Math.floor(Math.max(...reach)))];
  }

  // The index on t and c: a volume without the axis holds for all of it.
  others({ t, c }) {
    const found = {};
    if (this.volume.axes.includes("t")) found.t = Math.min(t, lengthOf(this.volume, "t") - 1);
    if (this.volume.axes.includes("c") && !this.volume.colour) found.c = Math.min(c, lengthOf(this.volume, "c") - 1);
    return found;
  }

  extent({ rows, columns, size, axes }) {
    const left = columns[0] * TILE,
      top = rows[0] * TILE;
    const end = (axis, last, sample) => Math.min((last + 1) * TILE, Math.ceil(lengthOf(this.volume, axis) / sample));
    return {
      left,
      top,
      width: Math.max(0, end(axes.column, columns[1], size.column) - left),
      height: Math.max(0, end(axes.row, rows[1], size.row) - top),
    };
  }

  *placed(spec, extent) {
    for (const tile of spec.tiles) {
      const found = tileAt(tile.url);
      if (found) yield { x: tile.column * TILE - extent.left, y: tile.row * TILE - extent.top, found };
    }
  }

  grey({ low, high }) {
    const { spec } = this.shown,
      extent = this.extent(spec),
      bad = [];
    const canvas = canvasOf(extent);
    const context = canvas?.getContext("2d");
    for (const { x, y, found } of this.placed(spec, extent)) {
      if (found.problem) {
        bad.push({ x, y, problem: found.problem });
      } else if (found.rows && found.columns) {
        const pixels = this.volume.colour ? paintColour(found.samples) : paintGrey(found.samples, low, high);
        context.putImageData(imageOf(pixels, found.columns), x, y);
      }
    }
    return { canvas, bad, extent, paths: null };
  }

  labelled({ colours }) {
    const { spec } = this.shown,
      extent = this.extent(spec),
      bad = [];
    const canvas = canvasOf(extent);
    const labels = new Uint16Array(extent.width * extent.height);
    for (const { x, y, found } of this.placed(spec, extent)) {
      if (found.problem) bad.push({ x, y, problem: found.problem });
      else
        for (let row = 0; row < found.rows; row += 1) {
          const line = found.samples.subarray(row * found.columns, (row + 1) * found.columns);
          labels.set(line, (y + row) * extent.width + x);
        }
    }
    if (canvas) {
      const table = new Uint32Array(65536);
      colours.forEach((colour, label) => {
        if (colour) table[label] = packed(colour);
      });
      canvas.getContext("2d").putImageData(imageOf(paintLabels(labels, table), extent.width), 0, 0);
    }
    const rows = Math.ceil(lengthOf(this.volume, spec.axes.row) / spec.size.row);
    const columns = Math.ceil(lengthOf(this.volume, spec.axes.column) / spec.size.column);
    const open = {
      left: extent.left > 0,
      top: extent.top > 0,
      right: extent.left + extent.width < columns,
      bottom: extent.top + extent.height < rows,
    };
    return { canvas, bad, extent, paths: outlines(labels, extent.width, extent.height, open) };
  }

  // The matrix from the picture's samples to pixels of the screen.
  matrix(frame) {
    const {
        spec: { size, axes },
        extent,
      } = this.shown,
      { scale } = this.map;
    return frame
      .translate(
        -cornerShift(this.map, axes.column) / scale[axes.column],
        -cornerShift(this.map, axes.row) / scale[axes.row],
      )
      .scale(size.column / scale[axes.column], size.row / scale[axes.row])
      .translate(extent.left, extent.top);
  }

  // The border of the volume, in the picture's samples: the last sample may stand for less than a whole block.
  border() {
    const {
      spec: { size, axes },
      extent,
    } = this.shown;
    const path = new Path2D();
    path.rect(
      -extent.left,
      -extent.top,
      lengthOf(this.volume, axes.column) / size.column,
      lengthOf(this.volume, axes.row) / size.row,
    );
    return path;
  }
}

const arrived = (spec) => spec.tiles.filter(({ url }) => tileAt(url)).length;

// Rows and columns of tiles, the nearest to the middle first.
function tilesBetween([top, bottom], [left, right]) {
  const found = [];
  for (let row = top; row <= bottom; row += 1) {
    for (let column = left; column <= right; column += 1) found.push([row, column]);
  }
  const distance = ([row, column]) => Math.hypot(row - (top + bottom) / 2, column - (left + right) / 2);
  return found.sort((one, other) => distance(one) - distance(other));
}

function canvasOf({ width, height }) {
  return width && height ? new OffscreenCanvas(width, height) : null;
}

function imageOf(pixels, width) {
  return new ImageData(new Uint8ClampedArray(pixels.buffer), width);
}
