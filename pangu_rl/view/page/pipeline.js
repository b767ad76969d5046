// A pipeline: its stages by what they wait for, and the table of evaluations as it is by now.

import { address, ask } from "./api.js";
import { duration, h, note, s } from "./dom.js";

const [WIDE, TALL, ACROSS, DOWN] = [148, 40, 190, 54];
const STATES = { begun: "going on", waits: "waits" };

export async function pipelineRoom(opened, asked) {
  const name = opened.pipelines.includes(asked.name) ? asked.name : opened.pipelines[0];
  if (!name) return { nodes: [note("None of these runs is a pipeline.")] };
  const place = h("div", {});
  let before = "";
  const refresh = async () => {
    const found = await ask("pipeline", { name });
    const text = JSON.stringify(found);
    if (text !== before) place.replaceChildren(...drawn(name, found));
    before = text;
  };
  await refresh();
  const others = opened.pipelines.filter((other) => other !== name);
  const links = others.map((other) => h("a", { class: "go", href: address("pipeline", { name: other }) }, other));
  return { nodes: [h("h1", {}, name, links), place], refresh };
}

function drawn(name, found) {
  const over = found.stages.filter((stage) => stage.state === "over").length;
  const nodes = [
    note(`${over} of ${found.stages.length} stages are over. A stage leads to its curves.`),
    h("div", { class: "scroll" }, graph(name, found.stages)),
  ];
  if (!found.table.length) return nodes;
  const told = "Per cent with 95 % intervals (Wilson); changes in points against the stage that each started from.";
  return [...nodes, h("h2", {}, "Held-out accuracy by stage"), note(told), h("div", { class: "scroll" }, table(found.table))];
}

function graph(pipeline, stages) {
  const at = new Map();
  const rows = []; // how many stages stand at each depth
  for (const stage of stages) {
    const row = (rows[stage.depth] = (rows[stage.depth] ?? 0) + 1);
    at.set(stage.name, [4 + stage.depth * ACROSS, 4 + (row - 1) * DOWN]);
  }
  const edges = stages.flatMap((stage) => stage.from.filter((from) => at.has(from.stage)).map((from) => edge(from, stage, at)));
  const boxes = stages.map((stage) => box(pipeline, stage, at.get(stage.name)));
  const size = [8 + (rows.length - 1) * ACROSS + WIDE, 8 + Math.max(...rows) * DOWN];
  const props = { class: "graph", viewBox: `0 0 ${size.join(" ")}`, width: size[0], height: size[1] };
  return s("svg", { ...props, role: "img", "aria-label": "stages of the pipeline" }, edges, boxes);
}

function edge(from, stage, at) {
  const [left, right] = [at.get(from.stage), at.get(stage.name)];
  const [x1, y1, x2, y2] = [left[0] + WIDE, left[1] + TALL / 2, right[0], right[1] + TALL / 2];
  const title = s("title", {}, `${from.stage}.${from.output} as ${from.key} of ${stage.name}`);
  return s("path", { class: "edge", d: `M${x1} ${y1}C${x1 + 24} ${y1} ${x2 - 24} ${y2} ${x2} ${y2}` }, title);
}

function box(pipeline, stage, [x, y]) {
  const told = `${stage.stage}, ${stage.state === "over" ? duration(stage.seconds) : STATES[stage.state]}`;
  const inside = [
    s("rect", { x, y, width: WIDE, height: TALL, rx: 6 }),
    s("text", { class: "name", x: x + 8, y: y + 17 }, cut(stage.name, 20)),
    s("text", { class: "told", x: x + 8, y: y + 32 }, cut(told, 25)),
    s("title", {}, stage.name),
  ];
  const href = address("curves", { runs: `${pipeline}/${stage.name}` });
  return s("a", { href }, s("g", { class: `stage ${stage.state}` }, inside));
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function table(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row.columns)))];
  const head = [h("th", { class: "left" }, "stage"), columns.map((column) => h("th", {}, column))];
  const body = rows.map((row) => h("tr", {}, h("td", { class: "left" }, row.stage), columns.map((column) => figure(row.columns[column]))));
  return h("table", { class: "rows still" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body));
}

function figure(found) {
  if (!found) return h("td", {});
  const percent = (share) => (100 * share).toFixed(1);
  const changes = Object.entries(found.changes).map(([name, change]) => {
    const points = `${change.change >= 0 ? "+" : ""}${percent(change.change)}`;
    return h("div", { class: "dim" }, `${points} against ${name}, +${change.gained} -${change.lost}`);
  });
  return h("td", {}, h("b", {}, percent(found.accuracy)), ` (${percent(found.low)} - ${percent(found.high)})`, changes);
}
