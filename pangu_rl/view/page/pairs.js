// Preference pairs: the prompt, and both responses side by side.

import { address, ask } from "./api.js";
import { h, note, number, pager, problem } from "./dom.js";

export async function pairsRoom(opened, asked) {
  const names = opened.runs.filter((run) => run.pairs).map((run) => run.name);
  if (!names.length) return { nodes: [note("No run makes pairs or trains on some.")] };
  const run = names.includes(asked.run) ? asked.run : names[0];
  const page = Number(asked.page ?? 0);
  const choose = names.length > 1 ? chooser(names, run) : [];
  try {
    const found = await ask("pairs", { run, page });
    const ends = found.rows.length ? `pairs ${found.rows[0].number} to ${found.rows.at(-1).number}` : "no pairs here";
    const pages = pager(`${ends} of ${found.file}`, page, found.more, (to) => address("pairs", { run, page: to || "" }));
    return { nodes: [choose, pages, found.rows.map(pair)].flat() };
  } catch (error) {
    return { nodes: [choose, problem(error.message)].flat() };
  }
}

function chooser(names, run) {
  const options = names.map((name) => h("option", { value: name, selected: name === run }, name));
  const go = (event) => {
    location.hash = address("pairs", { run: event.target.value });
  };
  return h("form", { class: "filters" }, h("label", {}, "Run", h("select", { onchange: go }, options)));
}

function pair(row) {
  if (row.bad) return h("article", { class: "card" }, h("header", {}, `row ${row.number}: ${row.bad}`));
  const facts = [row.source, row.media.length ? `shows ${row.media.join(", ")}` : ""].filter(Boolean);
  const header = h("header", {}, h("b", {}, row.uid), facts.map((fact) => h("span", {}, fact)));
  const said = row.messages.map(([role, text]) => [h("div", { class: "label" }, role), h("pre", {}, text)]);
  const sides = [
    side("chosen", row.chosen, row.chosen_score, ""),
    side("rejected", row.rejected, row.rejected_score, row.rejected_ended ? "" : ", cut at the limit"),
  ];
  const texts = h("div", { class: "texts" }, said, h("div", { class: "sides" }, sides));
  return h("article", { class: "card" }, header, h("div", { class: "body" }, texts));
}

function side(name, text, score, more) {
  const told = h("div", { class: "label" }, name, score === undefined ? "" : `, score ${number(score)}`, more);
  return h("div", { class: `side ${name}` }, told, h("pre", { class: "answer" }, text));
}
