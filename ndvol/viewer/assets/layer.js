// A volume on one plane: which samples it needs, and the picture that is put together from their tiles.

import { cornerShift, lengthOf, samplingOf } from "./geometry.js";
import { outlines, packed, paintColour, paintGrey, paintLabels } from "./paint.js";
import { TILE, release, tileAt, tileUrl, want } from "./tiles.js";

const PATIENCE = 200;  // ms that the plane before stays when tiles are late, so that scrolling does not flicker

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
      want(this, []);
      return;
    }
    if (this.shown?.spec.key !== spec.key && this.waiting?.key !== spec.key) {
      this.waiting = spec;
      spec.since = performance.now();
      want(this, spec.tiles);
    }
    const current = this.waiting ?? this.shown.spec;
    const arrived = current.tiles.filter(({ url }) => tileAt(url)).length;
    this.busy = arrived < current.tiles.length;
    if (this.waiting && (!this.busy || performance.now() - current.since > PATIENCE)) {
      this.shown = { spec: current, arrived: -1 };
      if (!this.busy) this.waiting = null;
    } else if (this.shown && !this.waiting && this.shown.arrived < arrived) {
      this.shown.arrived = -1;
    }
    if (this.shown && (this.shown.arrived === -1 || this.shown.look !== look.key)) {
      const found = this.shown.spec.tiles.filter(({ url }) => tileAt(url)).length;
      Object.assign(this.shown, this.folder === "labels" ? this.labelled(look) : this.grey(look));
      Object.assign(this.shown, { look: look.key, arrived: found });
    }
  }

  specOf({ case: name, key, plane, at, others, frame, width, height, pixelRatio }) {
    const { volume, map } = this;
    const axes = { column: plane.columns, row: plane.rows };
    const across = plane.across ? Math.round(map.scale[plane.across] * at + map.offset[plane.across]) : 0;
    if (plane.across && !(across >= 0 && across < lengthOf(volume, plane.across))) return null;
    const pixels = {
      [axes.column]: (Math.hypot(frame.a, frame.b) * pixelRatio) / map.scale[axes.column],
      [axes.row]: (Math.hypot(frame.c, frame.d) * pixelRatio) / map.scale[axes.row],
    };
    const sampling = samplingOf(volume, plane, pixels);
    const place = (axis) => volume.axes.indexOf(axis);
    const size = {
      column: sampling.columnStep * sampling.factor[place(axes.column)],
      row: sampling.rowStep * sampling.factor[place(axes.row)],
    };
    const back = frame.inverse();
    const corners = [[0, 0], [width, 0], [0, height], [width, height]].map(([x, y]) => back.transformPoint({ x, y }));
    const range = (axis, along) => {
      const reach = corners.map((p) => (map.scale[axis] * p[along] + cornerShift(map, axis)) / TILE);
      const sample = size[along === "x" ? "column" : "row"];
      const last = Math.ceil(lengthOf(volume, axis) / sample / TILE) - 1;
      return [Math.max(0, Math.floor(Math.min(...reach) / sample)), Math.min(last, Math.floor(Math.max(...reach) / sample))];
    };
    const columns = range(axes.column, "x"), rows = range(axes.row, "y");
    const factor = plane.across ? sampling.factor[place(plane.across)] : 1;
    const fixed = {
      case: name, key, volume: `${this.folder}/${volume.name}`, level: sampling.level, across: plane.across,
      at: Math.floor(across / factor), steps: [sampling.rowStep, sampling.columnStep], ...this.others(others),
    };
    const tiles = [];
    for (let row = rows[0]; row <= rows[1]; row += 1) {
      for (let column = columns[0]; column <= columns[1]; column += 1) {
        tiles.push({ row, column, type: volume.wire, url: tileUrl({ ...fixed, tile: [row, column] }) });
      }
    }
    const [middleRow, middleColumn] = [(rows[0] + rows[1]) / 2, (columns[0] + columns[1]) / 2];
    const distance = (tile) => Math.hypot(tile.row - middleRow, tile.column - middleColumn);
    tiles.sort((one, other) => distance(one) - distance(other));
    return { key: JSON.stringify([fixed, rows, columns]), tiles, rows, columns, size, axes, level: sampling.level,
      step: Math.max(sampling.rowStep, sampling.columnStep) };
  }

  // The index on t and c: a volume without the axis holds for all of it.
  others({ t, c }) {
    const found = {};
    if (this.volume.axes.includes("t")) found.t = Math.min(t, lengthOf(this.volume, "t") - 1);
    if (this.volume.axes.includes("c") && !this.volume.colour) found.c = Math.min(c, lengthOf(this.volume, "c") - 1);
    return found;
  }

  extent({ rows, columns, size, axes }) {
    const left = columns[0] * TILE, top = rows[0] * TILE;
    const end = (axis, last, sample) => Math.min((last + 1) * TILE, Math.ceil(lengthOf(this.volume, axis) / sample));
    return {
      left, top,
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
    const { spec } = this.shown, extent = this.extent(spec), bad = [];
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
    const { spec } = this.shown, extent = this.extent(spec), bad = [];
    const canvas = canvasOf(extent);
    const labels = new Uint16Array(extent.width * extent.height);
    for (const { x, y, found } of this.placed(spec, extent)) {
      if (found.problem) bad.push({ x, y, problem: found.problem });
      else for (let row = 0; row < found.rows; row += 1) {
        const line = found.samples.subarray(row * found.columns, (row + 1) * found.columns);
        labels.set(line, (y + row) * extent.width + x);
      }
    }
    if (canvas) {
      const table = new Uint32Array(65536);
      colours.forEach((colour, label) => { if (colour) table[label] = packed(colour); });
      canvas.getContext("2d").putImageData(imageOf(paintLabels(labels, table), extent.width), 0, 0);
    }
    const rows = Math.ceil(lengthOf(this.volume, spec.axes.row) / spec.size.row);
    const columns = Math.ceil(lengthOf(this.volume, spec.axes.column) / spec.size.column);
    const open = {
      left: extent.left > 0, top: extent.top > 0,
      right: extent.left + extent.width < columns, bottom: extent.top + extent.height < rows,
    };
    return { canvas, bad, extent, paths: outlines(labels, extent.width, extent.height, open) };
  }

  // The matrix from the picture's samples to pixels of the screen.
  matrix(frame) {
    const { spec: { size, axes }, extent } = this.shown, { scale } = this.map;
    return frame
      .translate(-cornerShift(this.map, axes.column) / scale[axes.column], -cornerShift(this.map, axes.row) / scale[axes.row])
      .scale(size.column / scale[axes.column], size.row / scale[axes.row])
      .translate(extent.left, extent.top);
  }

  // The border of the volume, in the picture's samples: the last sample may stand for less than a whole block.
  border() {
    const { spec: { size, axes }, extent } = this.shown;
    const path = new Path2D();
    path.rect(-extent.left, -extent.top,
      lengthOf(this.volume, axes.column) / size.column, lengthOf(this.volume, axes.row) / size.row);
    return path;
  }
}

function canvasOf({ width, height }) {
  return width && height ? new OffscreenCanvas(width, height) : null;
}

function imageOf(pixels, width) {
  return new ImageData(new Uint8ClampedArray(pixels.buffer), width);
}
