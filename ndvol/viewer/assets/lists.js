// The panels that list cases and objects: searched and cut into pages by the server.

import { ask } from "./api.js";
import { count, later, make, swatch, times } from "./dom.js";

// A search field over a list of rows; `path` and `facts()` say what to ask for, `rowOf` makes a row's content.
export function listPanel({ path, facts, rowOf, hint, none }) {
  const find = make("input", { type: "search", placeholder: hint, spellcheck: false });
  const list = make("ul", { className: "rows" });
  const total = make("p", { className: "note" });
  const more = make("button", { className: "more", textContent: "Show more", hidden: true, onclick: () => load(false) });
  let asked = 0, seen = 0;

  async function load(anew) {
    const ticket = (asked += 1);
    try {
      const answer = await ask(path, { ...facts(), find: find.value, first: anew ? 0 : seen });
      if (ticket !== asked) return;
      const rows = answer.rows.map(rowOf);
      list[anew ? "replaceChildren" : "append"](...rows);
      seen = answer.first + rows.length;
      total.textContent = answer.total ? `${count(answer.total)} in all` : none;
      more.hidden = seen >= answer.total;
    } catch (problem) {
      list.replaceChildren();
      total.textContent = problem.message;
    }
  }

  find.addEventListener("input", later(150, () => load(true)));
  return { root: make("div", { className: "panel" }, find, total, list, more), reload: () => load(true) };
}

// A row that is a button; `act` runs on click and on the keyboard's Enter.
export function rowButton({ act, title, head, tail, foot, colour }) {
  return make("li", {}, make("button", { className: "row", title, onclick: (event) => {
    event.currentTarget.closest("ul").querySelectorAll(".chosen").forEach((row) => row.classList.remove("chosen"));
    event.currentTarget.classList.add("chosen");
    act();
  } },
  make("span", { className: "head" }, colour ? swatch(colour) : null, make("span", { className: "name", textContent: head }),
    make("span", { className: "tail", textContent: tail })),
  make("span", { className: "foot", textContent: foot })));
}

export function casesPanel({ openCase, current }) {
  return listPanel({
    path: "cases", facts: () => ({}), hint: "Find a case", none: "No case has this in its name.",
    rowOf: (row) => {
      const node = rowButton({
        act: () => openCase(row.case), title: row.case, head: row.case,
        tail: row.objects ? `${count(row.objects)} objects` : "", foot: `${times(row.shape)} · ${row.images.join(", ")}`,
      });
      node.firstChild.classList.toggle("chosen", row.case === current());
      return node;
    },
  });
}

export function objectsPanel({ jump, current }) {
  return listPanel({
    path: "objects", facts: () => ({ case: current() }), hint: "Find a category", none: "No objects.",
    rowOf: (row) => rowButton({
      act: () => jump(row), title: `Object ${row.object} of ${row.volume || "the catalogue"}`, head: row.category,
      colour: row.colour, tail: `${count(row.voxels)} voxels`,
      foot: [...row.axes].map((axis, k) => `${axis} ${row.start[k]}–${row.stop[k] - 1}`).join("  "),
    }),
  });
}
