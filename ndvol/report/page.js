"use strict";
const all = (query, within = document) => [...within.querySelectorAll(query)];

// Tables: a click on a column's name sorts by it, a second one the other way round.
const key = (row, column) => {
  const cell = row.cells[column], given = cell.dataset.v ?? cell.textContent.trim();
  return given !== "" && Number.isFinite(Number(given)) ? Number(given) : given.toLowerCase();
};
const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
for (const button of all("thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = button.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [key(row, head.cellIndex), row]);
    rows.sort((a, b) => (down ? -1 : 1) * compare(a[0], b[0]));
    body.append(...rows.map((pair) => pair[1]));
  });
}

// Rows that hold all words of the field, and whose status is ticked.
const sift = (name) => {
  const words = document.querySelector(`input[data-table=${name}]`).value.toLowerCase().split(/\s+/).filter(Boolean);
  const ticked = new Set(all("input[data-status]:checked").map((box) => box.dataset.status));
  const rows = [...document.getElementById(`table-${name}`).tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const status = row.dataset.status, content = row.textContent.toLowerCase();
    row.hidden = (status !== undefined && !ticked.has(status)) || !words.every((word) => content.includes(word));
    shown += !row.hidden;
  }
  document.querySelector(`output[data-table=${name}]`).textContent =
    shown < rows.length ? `${shown} of ${rows.length}` : "";
};
for (const field of all("input[type=search]")) field.addEventListener("input", () => sift(field.dataset.table));
for (const box of all("input[data-status]")) box.addEventListener("change", () => sift("verdicts"));

// Pictures: 16-bit values, row by row as differences, high bytes first; drawn when they come into view.
const unpack = async (canvas) => {
  const packed = Uint8Array.from(atob(canvas.dataset.z), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  canvas.removeAttribute("data-z");
  if (canvas.dataset.kind === "rgb") return bytes;
  const count = canvas.width * canvas.height, numbers = new Uint16Array(count);
  for (let k = 0; k < count; k++) {
    const before = k % canvas.width ? numbers[k - 1] : 0;
    numbers[k] = before + bytes[k] * 256 + bytes[count + k];
  }
  return numbers;
};
const unpacked = new Map();
const paint = async (canvas) => {
  if (!unpacked.has(canvas)) unpacked.set(canvas, unpack(canvas));
  const values = await unpacked.get(canvas);
  const pen = canvas.getContext("2d"), picture = pen.createImageData(canvas.width, canvas.height);
  const panel = canvas.closest(".panel"), chosen = panel.querySelector("input:checked");
  const [low, high] = chosen ? panel.dataset.ranges.split(" ")[chosen.value].split(",").map(Number) : [0, 255];
  const scale = 255 / Math.max(high - low, 1e-12), offset = Number(canvas.dataset.low) - low;
  const step = Number(canvas.dataset.step), colour = canvas.dataset.kind === "rgb";
  for (let k = 0; k < canvas.width * canvas.height; k++) {
    for (let c = 0; c < 3; c++) {
      picture.data[4 * k + c] = colour ? values[3 * k + c] : (offset + step * values[k]) * scale;
    }
    picture.data[4 * k + 3] = 255;
  }
  pen.putImageData(picture, 0, 0);
};
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    paint(entry.target);
  }
}, { rootMargin: "600px" });
for (const canvas of all("canvas")) watcher.observe(canvas);

const choose = (name, action) => {
  for (const input of all(`input[name=${name}]`)) input.addEventListener("change", () => action(input));
};
const repaint = (panel) => { for (const canvas of all("canvas", panel)) if (unpacked.has(canvas)) paint(canvas); };
for (const panel of all(".panel")) panel.addEventListener("change", () => repaint(panel));
choose("all-presets", (input) => {
  for (const panel of all(".panel")) {
    const options = all("input[type=radio]", panel);
    const wanted = input.value === "0" ? options[0] : options.find((one) => one.dataset.name === input.dataset.name);
    if (wanted && !wanted.checked) { wanted.checked = true; repaint(panel); }
  }
});
choose("size", (input) => document.documentElement.style.setProperty("--zoom", [0.62, 1, 1.9][input.value]));
for (const card of all(".card")) {
  for (const input of all(":scope > .seg input", card)) {
    input.addEventListener("change", () => {
      all(".panel", card).forEach((panel, k) => { panel.hidden = k !== Number(input.value); });
    });
  }
}
document.getElementById("outlines")?.addEventListener("change", (event) => {
  document.body.classList.toggle("no-outlines", !event.target.checked);
});
