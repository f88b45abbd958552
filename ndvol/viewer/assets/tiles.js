// Tiles of planes, kept in memory up to a budget; those that nobody waits for any more are not asked for.

import { address, askTile } from "./api.js";

const BUDGET = 192 * 2 ** 20;
const PARALLEL = 6;
export const TILE = 256;

const kept = new Map();
const wanted = new Map();
const flying = new Set();
let bytes = 0;
let told = () => {};

export const onTile = (act) => { told = act; };

// Say which tiles an owner waits for, the most urgent first, in place of those it waited for before.
export function want(owner, tiles) {
  wanted.set(owner, tiles);
  pump();
}

export function release(owner) {
  wanted.delete(owner);
}

// A tile, or {problem}, or undefined while it is on its way.
export function tileAt(url) {
  const tile = kept.get(url);
  if (tile) {
    kept.delete(url);
    kept.set(url, tile);
  }
  return tile;
}

export const tileUrl = (facts) => address("tile", facts);

function pump() {
  while (flying.size < PARALLEL) {
    const next = nextWanted();
    if (!next) return;
    load(next);
  }
}

// One tile of every owner in turn: the planes fill side by side.
function nextWanted() {
  for (const [owner, tiles] of wanted) {
    const tile = tiles.find(({ url }) => !kept.has(url) && !flying.has(url));
    if (tile) {
      wanted.delete(owner);
      wanted.set(owner, tiles);
      return tile;
    }
  }
  return null;
}

async function load({ url, type }) {
  flying.add(url);
  try {
    const tile = await askTile(url, type);
    bytes += tile.samples.byteLength;
    kept.set(url, tile);
  } catch (problem) {
    kept.set(url, { problem });
  }
  flying.delete(url);
  for (const [old, tile] of kept) {
    if (bytes <= BUDGET) break;
    kept.delete(old);
    bytes -= tile.samples?.byteLength ?? 0;
  }
  told();
  pump();
}
