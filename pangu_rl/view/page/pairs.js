// Preference pairs: the prompt, and both responses side by side.

import { address, ask } from "./api.js";
import { h, number } from "./dom.js";

export async function pairsRoom(opened, asked) {
  const names = opened.runs.filter((run) => run.pairs).map((run) => run.name);
  if (!names.length) return { nodes: [h("p", { class: "dim" }, "No run makes pairs or trains on some.")] };
  const run = names.includes(asked.run) ? asked.run : names[0];
  const page = Number(asked.page ?? 0);
  const choose = names.length > 1 ? h("form", { class: "filters" }, h("label", {}, "Run", h("select", { onchange: (event) => { location.hash = address("pairs", { run: event.target.value }); } },
    names.map((name) => h("option", { value: name, selected: name === run }, name))))) : null;
  let found;
  try {
    found = await ask("pairs", { run, page });
  } catch (error) {
    return { nodes: [choose, h("p", { class: "bad", role: "alert" }, error.message)].filter(Boolean) };
  }
  const go = (to, label) => h("a", { class: "go", href: address("pairs", { run, page: to || "" }) }, label);
  const pager = h("div", { class: "pager" }, h("span", {}, found.rows.length ? `pairs ${found.rows[0].number} to ${found.rows.at(-1).number} of ${found.file}` : "no pairs here"),
    page > 0 ? go(page - 1, "before") : null, found.more ? go(page + 1, "next") : null);
  return { nodes: [choose, pager, ...found.rows.map(pair)].filter(Boolean) };
}

function pair(row) {
  if (row.bad) return h("article", { class: "card" }, h("header", {}, `row ${row.number}: ${row.bad}`));
  const side = (name, text, score, note) => h("div", { class: `side ${name}` }, h("div", { class: "label" }, name, score === undefined ? "" : `, score ${number(score)}`, note), h("pre", { class: "answer" }, text));
  return h("article", { class: "card" },
    h("header", {}, h("b", {}, row.uid), row.source ? h("span", {}, row.source) : null, row.media.length ? h("span", {}, `shows ${row.media.join(", ")}`) : null),
    h("div", { class: "body" }, h("div", { class: "texts" }, row.messages.map(([role, text]) => [h("div", { class: "label" }, role), h("pre", {}, text)]),
      h("div", { class: "sides" }, side("chosen", row.chosen, row.chosen_score, ""), side("rejected", row.rejected, row.rejected_score, row.rejected_ended ? "" : ", cut at the limit")))));
}
