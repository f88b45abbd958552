// Elements without markup: text of strangers only ever becomes textContent.

export function make(tag, facts = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function swatch(colour) {
  const node = make("span", { className: "swatch" });
  node.style.background = css(colour);
  return node;
}

export const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

const grouped = new Intl.NumberFormat("en");

export const count = (number) => grouped.format(number).replaceAll(",", "\u202f");

export const times = (lengths) => lengths.map((n) => (Number.isInteger(n) ? n : +n.toPrecision(4))).join(" × ");

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export function later(milliseconds, act) {
  let timer = 0;
  return (...facts) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...facts), milliseconds);
  };
}
