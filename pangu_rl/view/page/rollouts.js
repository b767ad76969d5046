// The table of rollouts: filters are part of the address, so that a view can be kept and gone back to.

import { address, ask, joined } from "./api.js";
import { badge, h, note, number, pager, problem, short } from "./dom.js";

const OUTCOMES = ["correct", "incorrect", "no_box", "unparsable", "timeout", "killed", "error"];

export async function rolloutsRoom(opened, asked) {
  const names = opened.runs.filter((run) => run.rollouts).map((run) => run.name);
  if (!names.length) return { nodes: [note("No rollouts are stored yet: they come with the first step that draws some.")] };
  const only = names.length === 1 ? names[0] : "";
  const chosen = { ...asked, runs: names.includes(asked.runs) ? asked.runs : only };
  const form = filters(opened, names, chosen);
  try {
    const found = await ask("rollouts", { ...chosen, runs: chosen.runs || joined(names) });
    return { nodes: [form, ...page(found, chosen, names.length > 1)] };
  } catch (error) {
    return { nodes: [form, problem(error.message)] };
  }
}

function filters(opened, names, chosen) {
  const field = (name, label, props) =>
    h("label", { class: "wide" }, label, h("input", { name, value: chosen[name], spellcheck: "false", ...props }));
  const select = (name, label, options, now) => {
    const made = options.map(([value, text]) => h("option", { value, selected: value === (now ?? "") }, text));
    const send = (event) => event.target.form.requestSubmit();
    return h("label", {}, label, h("select", { name, onchange: send }, made));
  };
  const runs = [["", "all"], ...names.map((name) => [name, name])];
  const outcomes = [["", "any"], ...OUTCOMES.map((name) => [name, name.replaceAll("_", " ")])];
  const sorts = opened.sorts.map((name) => [name, name]);
  const go = (event) => {
    event.preventDefault();
    location.hash = address("rollouts", Object.fromEntries(new FormData(event.target)));
  };
  return h(
    "form",
    { class: "filters", onsubmit: go },
    names.length > 1 ? select("runs", "Run", runs, chosen.runs) : null,
    field("search", "Search", { placeholder: "in prompts, answers and golds" }),
    field("where", "Where", { placeholder: "reward < 0.5 and step > 10", autocapitalize: "off" }),
    select("outcome", "Outcome", outcomes, chosen.outcome),
    select("sort", "Order", sorts, chosen.sort ?? opened.sorts[0]),
    h("button", {}, "Show"),
  );
}

function page(found, chosen, several) {
  if (!found.rows.length) return [note(found.total ? "There is no such page." : "No rollout is like that.")];
  const at = Number(chosen.page ?? 0);
  const first = at * found.page_rows;
  const after = first + found.rows.length;
  const counts = [first + 1, after, found.total].map((count) => count.toLocaleString("en"));
  const told = `${counts[0]} to ${counts[1]} of ${counts[2]}`;
  const pages = () => pager(told, at, after < found.total, (to) => address("rollouts", { ...chosen, page: to || "" }));
  return [pages(), table(found.rows, several), pages()];
}

function table(rows, several) {
  const all = [...new Set(rows.flatMap((row) => Object.keys(row.parts)))];
  const parts = all.length > 1 ? all : []; // a single one is the reward
  const left = (name) => h("th", { class: "left" }, name);
  const right = (name) => h("th", { title: name }, short(name));
  const head = [
    several ? left("run") : null,
    right("step"),
    left("outcome"),
    ["reward", ...parts, "advantage", "tokens"].map(right),
    ["prompt", "completion", "gold"].map(left),
  ];
  const body = rows.map((row) => line(row, several, parts));
  return h("div", { class: "scroll" }, h("table", { class: "rows" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

function line(row, several, parts) {
  const to = address("group", { run: row.run, step: row.step, group: row.group, uid: row.uid });
  const cell = (kind, label, ...content) => h("td", { class: kind, "data-label": label }, ...content);
  const text = (kind, label, shown, more) => cell(`left text ${kind}`, label, h("div", { class: "lines" }, shown), more);
  const dim = (words) => h("span", { class: "dim" }, words);
  const open = (event) => {
    if (event.target.tagName !== "A" && !String(getSelection())) location.hash = to;
  };
  return h(
    "tr",
    { onclick: open },
    several ? cell("left name", "run", row.run) : null,
    cell("", "step", h("a", { href: to }, String(row.step))),
    cell("left", "outcome", badge(row.outcome)),
    cell("", "reward", number(row.reward)),
    parts.map((part) => cell("", short(part), number(row.parts[part]))),
    cell("", "advantage", number(row.advantage)),
    cell("", "tokens", number(row.tokens), row.finish_reason === "length" ? dim(" cut") : null),
    text("prompt", "prompt", row.prompt, row.media ? dim(row.media > 1 ? `with ${row.media} pictures` : "with a picture") : null),
    text("", "completion", row.text),
    text("gold", "gold", row.gold),
  );
}
