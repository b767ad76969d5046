// The table of rollouts: filters are part of the address, so that a view can be kept and gone back to.

import { address, ask, joined } from "./api.js";
import { badge, h, number, short } from "./dom.js";

const OUTCOMES = ["correct", "incorrect", "no_box", "unparsable", "timeout", "killed", "error"];

export async function rolloutsRoom(opened, asked) {
  const names = opened.runs.filter((run) => run.rollouts).map((run) => run.name);
  if (!names.length) return { nodes: [h("p", { class: "dim" }, "No rollouts are stored yet: they come with the first step of a stage that draws some.")] };
  const chosen = { ...asked, runs: asked.runs && names.includes(asked.runs) ? asked.runs : names.length === 1 ? names[0] : "" };
  const form = filters(opened, names, chosen);
  try {
    const found = await ask("rollouts", chosen.runs ? chosen : { ...chosen, runs: joined(names) });
    return { nodes: [form, ...table(found, chosen, names.length > 1)] };
  } catch (error) {
    return { nodes: [form, h("p", { class: "bad", role: "alert" }, error.message)] };
  }
}

function filters(opened, names, chosen) {
  const option = (value, label, now) => h("option", { value, selected: value === (now ?? "") }, label);
  const select = (name, options) => h("select", { name, onchange: (event) => event.target.form.requestSubmit() }, options);
  const go = (event) => {
    event.preventDefault();
    location.hash = address("rollouts", Object.fromEntries(new FormData(event.target)));
  };
  return h("form", { class: "filters", onsubmit: go },
    names.length > 1 ? h("label", {}, "Run", select("runs", [option("", "all", chosen.runs), ...names.map((name) => option(name, name, chosen.runs))])) : null,
    h("label", { class: "wide" }, "Search", h("input", { name: "search", value: chosen.search, placeholder: "in prompts, answers and golds" })),
    h("label", { class: "wide" }, "Where", h("input", { name: "where", value: chosen.where, placeholder: "reward < 0.5 and step > 10", spellcheck: "false", autocapitalize: "off" })),
    h("label", {}, "Outcome", select("outcome", [option("", "any", chosen.outcome), ...OUTCOMES.map((name) => option(name, name.replaceAll("_", " "), chosen.outcome))])),
    h("label", {}, "Order", select("sort", opened.sorts.map((name) => option(name, name, chosen.sort ?? "newest")))),
    h("button", {}, "Show"));
}

function table(found, chosen, several) {
  const page = Number(chosen.page ?? 0);
  const first = page * found.page_rows;
  if (!found.rows.length) return [h("p", { class: "dim" }, found.total ? "There is no such page." : "No rollout is like that.")];
  const parts = [...new Set(found.rows.flatMap((row) => Object.keys(row.parts)))];
  const several_parts = parts.length > 1 ? parts : [];
  const go = (to, label) => h("a", { class: "go", href: address("rollouts", { ...chosen, page: to || "" }) }, label);
  const pager = () => h("div", { class: "pager" },
    h("span", {}, `${(first + 1).toLocaleString("en")} to ${(first + found.rows.length).toLocaleString("en")} of ${found.total.toLocaleString("en")}`),
    page > 0 ? go(page - 1, "before") : null,
    first + found.rows.length < found.total ? go(page + 1, "next") : null);
  return [
    pager(),
    h("div", { class: "scroll" }, h("table", { class: "rows" },
      h("thead", {}, h("tr", {}, several ? h("th", { class: "left" }, "run") : null, h("th", {}, "step"), h("th", { class: "left" }, "outcome"), h("th", {}, "reward"),
        several_parts.map((part) => h("th", { title: part }, short(part))), h("th", {}, "advantage"), h("th", {}, "tokens"),
        h("th", { class: "left" }, "prompt"), h("th", { class: "left" }, "completion"), h("th", { class: "left" }, "gold"))),
      h("tbody", {}, found.rows.map((row) => line(row, several, several_parts))))),
    pager(),
  ];
}

function line(row, several, parts) {
  const to = address("group", { run: row.run, step: row.step, group: row.group, uid: row.uid });
  const cell = (name, label, ...content) => h("td", { class: name, "data-label": label }, ...content);
  return h("tr", { onclick: (event) => { if (event.target.tagName !== "A" && !String(getSelection())) location.hash = to; } },
    several ? cell("left name", "run", row.run) : null,
    cell("", "step", h("a", { href: to }, String(row.step))),
    cell("left", "outcome", badge(row.outcome)),
    cell("", "reward", number(row.reward)),
    parts.map((part) => cell("", short(part), number(row.parts[part]))),
    cell("", "advantage", number(row.advantage)),
    cell("", "tokens", number(row.tokens), row.finish_reason === "length" ? h("span", { class: "dim", title: "cut at the limit" }, " cut") : null),
    cell("left text prompt", "prompt", h("div", { class: "lines" }, row.prompt), row.media ? h("span", { class: "dim" }, row.media > 1 ? `with ${row.media} pictures` : "with a picture") : null),
    cell("left text", "completion", h("div", { class: "lines" }, row.text)),
    cell("left text gold", "gold", h("div", { class: "lines" }, row.gold)));
}
