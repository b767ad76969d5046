// Elements out of data. Text becomes text and nothing else: no function here reads markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

export function s(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function number(value) {
  if (value === null || value === undefined) return "-";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (Number.isInteger(value)) return String(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, "0")}s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}m`;
  return `${Math.floor(whole / 86400)} days`;
}

// A reward function is named by its file and its own name, of which the latter tells it apart.
export const short = (name) => name.split(/[/:]/).at(-1);

export const badge = (outcome) =>
  h("span", { class: `outcome ${/^[a-z_]+$/.test(outcome) ? outcome : ""}` }, outcome.replaceAll("_", " "));

export const note = (text) => h("p", { class: "dim" }, text);
export const problem = (text) => h("p", { class: "bad", role: "alert" }, text);

// `told`, and links to the pages before and after page `at`; `to` makes their addresses.
export function pager(told, at, more, to) {
  const link = (page, label) => h("a", { class: "go", href: to(page) }, label);
  return h("div", { class: "pager" }, h("span", {}, told), at > 0 ? link(at - 1, "before") : null, more ? link(at + 1, "next") : null);
}
