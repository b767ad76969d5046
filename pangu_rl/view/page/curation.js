// Pipelines of curation: what each operator did to how many rows, and the way to the report.

import { ask } from "./api.js";
import { h, note, number } from "./dom.js";

export async function curationRoom() {
  const place = h("div", {});
  let before = "";
  const refresh = async () => {
    const found = await ask("curations");
    const text = JSON.stringify(found);
    if (text !== before) place.replaceChildren(...found.flatMap(drawn));
    before = text;
  };
  await refresh();
  return { nodes: [place], refresh };
}

function drawn(curation) {
  const props = { class: "go", href: `/report?${new URLSearchParams({ name: curation.name })}` };
  const report = curation.report ? h("a", { ...props, target: "_blank", rel: "noopener" }, "report") : null;
  const title = h("h1", {}, curation.name, report);
  if (curation.rows === null) return [title, note("It goes on, or was interrupted: its counts come when it is through.")];
  const read = curation.operators.length ? curation.operators[0].in : 0;
  const told = `${number(curation.rows)} rows are left of ${number(read)} of ${curation.input.join(", ")}.`;
  return [title, note(told), h("div", { class: "scroll" }, table(curation.operators))];
}

function table(operators) {
  const head = ["operator", "in", "out", "dropped", "errors", "why"].map((name) => h("th", { class: side(name) }, name));
  return h("table", { class: "rows still operators" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, operators.map(row)));
}

const side = (name) => (["operator", "why"].includes(name) ? "left" : null);
const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);

function row(one) {
  const reasons = Object.entries({ ...one.dropped, ...one.errors, ...one.edited }).sort((a, b) => b[1] - a[1]);
  const why = reasons.map(([reason, count]) => `${number(count)} ${reason}`).join(", ");
  const figure = (value) => h("td", { class: value ? null : "dim" }, number(value));
  const numbers = [one.in, one.out, total(one.dropped), total(one.errors)].map(figure);
  return h("tr", {}, h("td", { class: "left" }, one.operator), numbers, h("td", { class: "left why" }, why));
}
