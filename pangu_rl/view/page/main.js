// The frame: which runs there are, which room is open, and the look at the server every few seconds.

import { address, ask, here } from "./api.js";
import { curationRoom } from "./curation.js";
import { curvesRoom } from "./curves.js";
import { h, duration } from "./dom.js";
import { groupRoom } from "./group.js";
import { pairsRoom } from "./pairs.js";
import { pipelineRoom } from "./pipeline.js";
import { rolloutsRoom } from "./rollouts.js";

const EVERY_MS = 5000;
const ROOMS = {
  curves: curvesRoom,
  rollouts: rolloutsRoom,
  group: groupRoom,
  pairs: pairsRoom,
  pipeline: pipelineRoom,
  curation: curationRoom,
};
const LABELS = { curves: "Curves", rollouts: "Rollouts", pairs: "Pairs", pipeline: "Pipeline", curation: "Curation" };
const element = (id) => document.getElementById(id);

let opened = null;
let refresh = null; // what the open room does at each look; none where it does not change
let shown = 0;

function complain(error) {
  element("error").hidden = !error;
  element("error").textContent = error ? error.message : "";
}

function state(run) {
  const of = run.steps ? ` of ${run.steps}` : "";
  if (run.steps && run.step >= run.steps) return `finished, ${run.steps} steps`;
  const age = run.age === null ? "" : `, last ${duration(run.age)} ago`;
  return `step ${run.step}${of}${age}`;
}

function drawTop() {
  const { room } = here();
  const has = {
    curves: opened.runs.some((run) => run.step > 0),
    rollouts: opened.runs.some((run) => run.rollouts),
    pairs: opened.runs.some((run) => run.pairs),
    pipeline: opened.pipelines.length > 0,
    curation: opened.curations.length > 0,
  };
  const current = room === "group" ? "rollouts" : room || first();
  const links = Object.keys(LABELS).filter((name) => has[name] || name === current);
  const most = 4;
  const runs = opened.runs
    .slice(0, most)
    .map((run) => h("span", { class: "run" }, h("b", {}, run.name), " ", state(run)));
  if (opened.runs.length > most) runs.push(h("span", { class: "run" }, `and ${opened.runs.length - most} more runs`));
  element("top").replaceChildren(
    h(
      "nav",
      {},
      links.map((name) =>
        h("a", { href: address(name), "aria-current": name === current ? "page" : null }, LABELS[name]),
      ),
    ),
    h("div", { class: "runs" }, runs),
  );
  document.title = `${opened.runs[0]?.name ?? opened.pipelines[0] ?? opened.curations[0]} - pangu_rl`;
}

function first() {
  if (opened.pipelines.length) return "pipeline";
  if (opened.runs.some((run) => run.step > 0)) return "curves";
  return opened.runs.some((run) => run.rollouts)
    ? "rollouts"
    : opened.runs.some((run) => run.pairs)
      ? "pairs"
      : opened.curations.length && !opened.runs.length
        ? "curation"
        : "curves";
}

async function enter() {
  const visit = ++shown;
  refresh = null;
  complain(null);
  const { room, asked } = here();
  drawTop();
  element("room").setAttribute("aria-busy", "true");
  try {
    const made = await (ROOMS[room || first()] ?? curvesRoom)(opened, asked);
    if (visit !== shown) return;
    element("room").replaceChildren(...made.nodes);
    refresh = made.refresh ?? null;
  } catch (error) {
    if (visit === shown) complain(error);
  }
  if (visit === shown) element("room").removeAttribute("aria-busy");
}

async function look() {
  if (document.hidden) return;
  const visit = shown;
  try {
    opened = await ask("runs");
    drawTop();
    if (refresh) await refresh(opened);
    if (visit === shown && refresh) complain(null);
  } catch (error) {
    complain(error);
  }
}

if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token is in the cookie now
try {
  opened = await ask("runs");
  addEventListener("hashchange", enter);
  await enter();
  setInterval(look, EVERY_MS);
} catch (error) {
  complain(error);
}
