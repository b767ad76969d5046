// A pipeline: its stages by what they wait for, and the table of evaluations as it is by now.

import { address, ask } from "./api.js";
import { duration, h, s } from "./dom.js";

const WIDE = 148, TALL = 40, ACROSS = 190, DOWN = 54;

export async function pipelineRoom(opened, asked) {
  const name = opened.pipelines.includes(asked.name) ? asked.name : opened.pipelines[0];
  if (!name) return { nodes: [h("p", { class: "dim" }, "None of these runs is a pipeline.")] };
  const place = h("div", {});
  let before = "";
  const refresh = async () => {
    const found = await ask("pipeline", { name });
    const text = JSON.stringify(found);
    if (text === before) return;
    before = text;
    const over = found.stages.filter((stage) => stage.state === "over").length;
    place.replaceChildren(
      h("p", { class: "dim" }, `${over} of ${found.stages.length} stages are over. A stage leads to its curves.`),
      h("div", { class: "scroll" }, graph(name, found.stages)),
      found.table.length ? h("h2", {}, "Held-out accuracy by stage") : "",
      found.table.length ? h("p", { class: "dim" }, "Per cent with 95 % intervals (Wilson); changes in points against the stage that each started from.") : "",
      found.table.length ? h("div", { class: "scroll" }, table(found.table)) : "");
  };
  await refresh();
  const links = opened.pipelines.length > 1 ? h("p", {}, opened.pipelines.map((other) => h("a", { class: "go", href: address("pipeline", { name: other }) }, other))) : null;
  return { nodes: [h("h1", {}, name), links, place].filter(Boolean), refresh };
}

function graph(pipeline, stages) {
  const rows = new Map();
  const at = new Map();
  for (const stage of stages) {
    const row = rows.get(stage.depth) ?? 0;
    rows.set(stage.depth, row + 1);
    at.set(stage.name, { x: 4 + stage.depth * ACROSS, y: 4 + row * DOWN });
  }
  const lines = stages.flatMap((stage) => stage.from.filter((edge) => at.has(edge.stage)).map((edge) => {
    const from = at.get(edge.stage), to = at.get(stage.name);
    const [x1, y1, x2, y2] = [from.x + WIDE, from.y + TALL / 2, to.x, to.y + TALL / 2];
    return s("path", { class: "edge", d: `M${x1} ${y1}C${x1 + 24} ${y1} ${x2 - 24} ${y2} ${x2} ${y2}` }, s("title", {}, `${edge.stage}.${edge.output} as ${edge.key} of ${stage.name}`));
  }));
  const boxes = stages.map((stage) => {
    const { x, y } = at.get(stage.name);
    const told = stage.state === "over" ? `${stage.stage}, ${duration(stage.seconds)}` : `${stage.stage}, ${stage.state === "begun" ? "going on" : "waits"}`;
    return s("a", { href: address("curves", { runs: `${pipeline}/${stage.name}` }) },
      s("g", { class: `stage ${stage.state}` }, s("rect", { x, y, width: WIDE, height: TALL, rx: 6 }),
        s("text", { class: "name", x: x + 8, y: y + 17 }, cut(stage.name, 21)), s("text", { class: "told", x: x + 8, y: y + 32 }, cut(told, 25)), s("title", {}, stage.name)));
  });
  const width = 8 + (Math.max(...rows.keys()) + 1) * ACROSS - (ACROSS - WIDE), height = 8 + Math.max(...rows.values()) * DOWN;
  return s("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "stages of the pipeline" }, lines, boxes);
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const percent = (share) => (100 * share).toFixed(1);

function table(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row.columns)))];
  return h("table", { class: "rows still" },
    h("thead", {}, h("tr", {}, h("th", { class: "left" }, "stage"), columns.map((column) => h("th", {}, column)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("td", { class: "left" }, row.stage), columns.map((column) => {
      const found = row.columns[column];
      if (!found) return h("td", {}, "");
      return h("td", { "data-label": column }, h("b", {}, percent(found.accuracy)), ` (${percent(found.low)} - ${percent(found.high)})`,
        Object.entries(found.changes).map(([name, change]) => h("div", { class: "dim" }, `${change.change >= 0 ? "+" : ""}${percent(change.change)} against ${name}, +${change.gained} -${change.lost}`)));
    })))));
}
