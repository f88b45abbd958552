// From samples to pixels: pure functions of arrays.

const OPAQUE = 0xff000000;

// Grey (as 0xAABBGGRR) of every 16-bit sample between `low` (black) and `high` (white).
function greyTable(samples, low, high) {
  const signed = samples instanceof Int16Array || samples instanceof Int8Array;
  const size = samples.BYTES_PER_ELEMENT === 1 ? 256 : 65536;
  const table = new Uint32Array(size);
  const slope = 255 / Math.max(high - low, 1e-12);
  for (let raw = 0; raw < size; raw += 1) {
    const value = signed && raw >= size / 2 ? raw - size : raw;
    const grey = Math.min(Math.max((value - low) * slope, 0), 255) | 0;
    table[raw] = OPAQUE | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

let kept = { key: "", table: null };

function tableFor(samples, low, high) {
  const key = [samples.constructor.name, low, high].join();
  if (kept.key !== key) kept = { key, table: greyTable(samples, low, high) };
  return kept.table;
}

export function paintGrey(samples, low, high) {
  const pixels = new Uint32Array(samples.length);
  if (samples instanceof Float32Array) {
    const slope = 255 / Math.max(high - low, 1e-12);
    for (let i = 0; i < samples.length; i += 1) {
      // Not a number is black, as everywhere in ndvol.
      const grey = Math.min(Math.max((samples[i] - low) * slope, 0), 255) | 0;
      pixels[i] = OPAQUE | (grey << 16) | (grey << 8) | grey;
    }
    return pixels;
  }
  const table = tableFor(samples, low, high);
  const mask = table.length - 1;
  for (let i = 0; i < samples.length; i += 1) pixels[i] = table[samples[i] & mask];
  return pixels;
}

export function paintColour(samples) {
  const pixels = new Uint32Array(samples.length / 3);
  for (let i = 0, k = 0; i < pixels.length; i += 1, k += 3) {
    pixels[i] = OPAQUE | (samples[k + 2] << 16) | (samples[k + 1] << 8) | samples[k];
  }
  return pixels;
}

// One colour per label; the table holds 0 for what is not shown.
export function paintLabels(labels, table) {
  const pixels = new Uint32Array(labels.length);
  for (let i = 0; i < labels.length; i += 1) pixels[i] = table[labels[i]];
  return pixels;
}

export const packed = ([red, green, blue]) => (OPAQUE | (blue << 16) | (green << 8) | red) >>> 0;

// The borders of every label, in samples, along the edges between them: label -> Path2D.
// `open` says of the top, right, bottom and left side whether the volume goes on there, where no border is known.
export function outlines(labels, width, height, open) {
  const paths = new Map();
  const draw = (label, x0, y0, x1, y1) => {
    if (!label) return;
    if (!paths.has(label)) paths.set(label, new Path2D());
    const path = paths.get(label);
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  trace(height, width, (line, at) => labels[line * width + at], [open.top, open.bottom],
    (label, line, from, to) => draw(label, from, line, to, line));
  trace(width, height, (line, at) => labels[at * width + line], [open.left, open.right],
    (label, line, from, to) => draw(label, line, from, line, to));
  return paths;
}

// Runs of differing neighbours across the border in front of every line, and behind the last.
function trace(lines, length, label, [openBefore, openAfter], draw) {
  for (let line = 0; line <= lines; line += 1) {
    if ((line === 0 && openBefore) || (line === lines && openAfter)) continue;
    let from = 0, one = 0, other = 0;
    for (let at = 0; at <= length; at += 1) {
      const before = at < length && line > 0 ? label(line - 1, at) : 0;
      const after = at < length && line < lines ? label(line, at) : 0;
      if (at < length && before === one && after === other) continue;
      if (one !== other) {
        draw(one, line, from, at);
        draw(other, line, from, at);
      }
      [from, one, other] = [at, before, after];
    }
  }
}
