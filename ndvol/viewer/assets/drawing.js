// What is drawn on a plane: the layers, and over them windows, the crosshair and the scale.
// A pane gives its plane, the slice that it shows and the place of an axis among those of a voxel's index.

import { css } from "./dom.js";
import { TILE } from "./tiles.js";
import { state } from "./state.js";

const CRISP = 5;  // pixels of a voxel from which on its edges are shown
export const AXIS_COLOURS = { z: "#d9a55a", y: "#7fb58c", x: "#7ba3d6" };
const ROLE_COLOURS = { positive: "rgb(102, 187, 106)", negative: "rgb(92, 148, 245)" };
const UNNAMED = [190, 190, 190];

// How the samples of a layer are painted; the key tells whether they must be painted again.
export function lookOf({ folder, volume }) {
  if (folder === "images") return { key: [state.low, state.high].join(), low: state.low, high: state.high };
  const colours = [null, ...volume.values.map(({ category, colour }) => (state.hidden.has(category) ? null : colour)), UNNAMED];
  return { key: colours.join("|"), colours };
}

export function drawLayer(context, layer, frame, pixelRatio) {
  const { canvas, paths, bad } = layer.shown;
  const matrix = new DOMMatrix().scale(pixelRatio).multiply(layer.matrix(frame));
  const pixel = Math.min(Math.hypot(matrix.a, matrix.b), Math.hypot(matrix.c, matrix.d));
  const opacity = layer.folder === "images" ? 1 : state.style === "outline" ? 0 : state.opacity;
  context.save();
  context.setTransform(matrix);
  context.clip(layer.border());
  context.imageSmoothingEnabled = layer.folder === "images" && pixel < CRISP;
  context.globalAlpha = opacity;
  if (canvas && opacity) context.drawImage(canvas, 0, 0);
  context.globalAlpha = 1;
  for (const { x, y } of bad) drawDamage(context, layer.shown.extent, x, y);
  context.restore();
  if (paths && state.style !== "fill") drawOutlines(context, lookOf(layer).colours, paths, matrix, 1.5 * pixelRatio);
}

// Lines keep their width whatever the zoom, so paths are brought to the screen before they are drawn.
function onScreen(path, matrix) {
  const brought = new Path2D();
  brought.addPath(path, matrix);
  return brought;
}

function drawOutlines(context, colours, paths, matrix, width) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.lineWidth = width;
  for (const [label, path] of paths) {
    if (!colours[label]) continue;
    context.strokeStyle = css(colours[label]);
    context.stroke(onScreen(path, matrix));
  }
}

// A tile that cannot be read is crossed out.
function drawDamage(context, extent, x, y) {
  const width = Math.min(TILE, extent.width - x), height = Math.min(TILE, extent.height - y);
  context.fillStyle = "rgba(120, 32, 32, 0.55)";
  context.fillRect(x, y, width, height);
  context.strokeStyle = "rgb(214, 96, 96)";
  context.lineWidth = Math.max(width, height) / 200;
  context.beginPath();
  context.rect(x, y, width, height);
  context.moveTo(x, y);
  context.lineTo(x + width, y + height);
  context.moveTo(x + width, y);
  context.lineTo(x, y + height);
  context.stroke();
}

// Windows that cut the plane; the chosen one is dashed where it does not.
export function drawBoxes(context, pane, frame) {
  const rows = pane.place(pane.plane.rows), columns = pane.place(pane.plane.columns), across = pane.place(pane.plane.across);
  const boxes = pane.boxes(), chosen = boxes.some(({ picked }) => picked);
  for (const { corners, t, role, picked } of boxes) {
    const cuts = across < 0 || (corners[across][0] <= pane.at() && pane.at() < corners[across][1]);
    const here = cuts && (!t || (t[0] <= state.t && state.t < t[1]));
    if (!here && !picked) continue;
    const [left, right] = corners[columns], [top, bottom] = corners[rows];
    const path = new Path2D();
    path.rect(left, top, right - left, bottom - top);
    const frameOnScreen = onScreen(path, frame);
    context.setLineDash(here ? [] : [3, 4]);
    context.globalAlpha = chosen && !picked ? 0.45 : 1;
    context.strokeStyle = "rgba(0, 0, 0, 0.6)";
    context.lineWidth = picked ? 4 : 2.5;
    context.stroke(frameOnScreen);
    context.strokeStyle = ROLE_COLOURS[role];
    context.lineWidth = picked ? 2.25 : 1;
    context.stroke(frameOnScreen);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

export function drawCross(context, pane, frame, width, height) {
  const { columns, rows, across } = pane.plane, gap = 9, far = 2 * (width + height);
  const centre = frame.transformPoint({ x: state.at[pane.place(columns)] + 0.5, y: state.at[pane.place(rows)] + 0.5 });
  // The line along the rows' axis is where the plane across the columns' axis cuts this one, and the other way round.
  for (const [right, down, axis] of [[frame.c, frame.d, columns], [frame.a, frame.b, rows]]) {
    const length = Math.hypot(right, down), [x, y] = [right / length, down / length];
    context.lineWidth = 1;
    context.strokeStyle = across ? AXIS_COLOURS[axis] : "#98a2ad";
    context.globalAlpha = 0.75;
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(centre.x + side * gap * x, centre.y + side * gap * y);
      context.lineTo(centre.x + side * far * x, centre.y + side * far * y);
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

export function drawScale(context, unit, scale, height) {
  const longest = 90 / scale, power = 10 ** Math.floor(Math.log10(longest));
  const length = power * (longest / power >= 5 ? 5 : longest / power >= 2 ? 2 : 1);
  const [x, y] = [14, height - 36];
  context.shadowColor = "#000";
  context.shadowBlur = 3;
  context.strokeStyle = context.fillStyle = "rgb(226, 231, 237)";
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, y - 4);
  context.lineTo(x, y);
  context.lineTo(x + length * scale, y);
  context.lineTo(x + length * scale, y - 4);
  context.stroke();
  context.font = "11px system-ui, sans-serif";
  const name = unit === "unknown" ? (length === 1 ? "voxel" : "voxels") : unit === "um" ? "µm" : unit;
  context.fillText(`${+length.toPrecision(1)} ${name}`, x + 2, y - 8);
  context.shadowBlur = 0;
}
