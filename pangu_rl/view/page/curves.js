// Panels of curves: a colour for each curve, or for each run where several stand side by side.

import { address, ask, joined } from "./api.js";
import { COLOURS, figure } from "./chart.js";
import { h } from "./dom.js";

export async function curvesRoom(opened, asked) {
  const names = opened.runs.filter((run) => run.step > 0).map((run) => run.name);
  const chosen = asked.runs ? asked.runs.split("\n").filter((name) => names.includes(name)) : names.slice(0, 6);
  if (!names.length) return { nodes: [h("p", { class: "dim" }, "No step is logged yet.")], refresh: restart };
  const place = h("div", {});
  let before = "";
  const refresh = async () => {
    const sections = await ask("curves", { runs: joined(chosen) });
    const text = JSON.stringify(sections);
    if (text === before) return;
    before = text;
    place.replaceChildren(...drawn(sections, chosen));
  };
  await refresh();
  return { nodes: [names.length > 1 ? chooser(names, chosen) : null, place].filter(Boolean), refresh };
}

// What there is to draw comes with the first step.
const restart = async (opened) => {
  if (opened.runs.some((run) => run.step > 0)) dispatchEvent(new Event("hashchange"));
};

function chooser(names, chosen) {
  const toggle = (name) => () => {
    const next = names.filter((other) => (other === name ? !chosen.includes(other) : chosen.includes(other)));
    location.hash = address("curves", { runs: joined(next.length ? next : [name]) });
  };
  const boxes = names.map((name) => {
    const at = chosen.indexOf(name);
    const key = at < 0 ? null : h("span", { class: `key c${at % COLOURS}` });
    return h("label", {}, h("input", { type: "checkbox", checked: at >= 0, onchange: toggle(name) }), key, name);
  });
  return h("fieldset", { class: "chooser" }, h("legend", {}, "Runs"), boxes);
}

function drawn(sections, chosen) {
  return sections.flatMap((section) => [
    h("h2", {}, section.section),
    h(
      "div",
      { class: "panels" },
      section.panels.flatMap((panel) => figures(panel, chosen)),
    ),
  ]);
}

function figures(panel, chosen) {
  if (!panel.stacked) return [figure(panel, panel.curves, chosen, panel.title)];
  const runs = chosen.filter((run) => panel.curves.some((curve) => curve.run === run));
  return runs.map((run) =>
    figure(
      panel,
      panel.curves.filter((curve) => curve.run === run),
      chosen,
      chosen.length > 1 ? `${panel.title}, ${run}` : panel.title,
    ),
  );
}
