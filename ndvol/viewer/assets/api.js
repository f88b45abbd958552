// Questions to the server. Addresses are relative, so each carries the token that the page's own address begins with.

export class Problem extends Error {
  constructor(text, code) {
    super(text);
    this.code = code;
  }
}

export const address = (path, facts) => `api/${path}?${new URLSearchParams(facts)}`;

async function fetched(url) {
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Problem("The viewer has ended: start `ndvol view` again.", "ended");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({ error: `status ${answer.status}`, code: "status" }));
  throw new Problem(told.error, told.code);
}

export async function ask(path, facts = {}) {
  return (await fetched(address(path, facts))).json();
}

const ARRAYS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array,
};

export async function askTile(url, type) {
  const answer = await fetched(url);
  const [rows, columns] = answer.headers.get("X-Tile-Shape").split(",").map(Number);
  return { rows, columns, samples: new ARRAYS[type](await answer.arrayBuffer()) };
}
