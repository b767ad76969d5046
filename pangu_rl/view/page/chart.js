// One pair of axes: curves or stacked bars as SVG, its legend with the last values, and the values under the pointer.

import { h, number, s, short } from "./dom.js";

const WIDTH = 420;
const HEIGHT = 220;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 10, 10, 24];
const SMOOTH = 5;
export const COLOURS = 8;
const DASHES = ["", "5 3", "2 2", "8 3 2 3"];

// `curves` of the runs `chosen`; a colour for each run where several stand side by side, else for each curve.
export function figure(panel, curves, chosen, title) {
  const several = chosen.length > 1 && !panel.stacked;
  const labels = [...new Set(curves.map((curve) => curve.label))];
  const colour = (curve) => (several ? chosen.indexOf(curve.run) : labels.indexOf(curve.label)) % COLOURS;
  const dash = (curve) => (several ? DASHES[labels.indexOf(curve.label) % DASHES.length] : "");
  const scale = panel.stacked ? stackScale(curves) : scaled(curves, panel.zero);
  const marks = panel.stacked
    ? bars(curves, scale)
    : curves.map((curve) => line(curve, scale, panel.smooth, colour(curve), dash(curve)));
  const svg = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} by step` },
    axes(scale),
    marks,
  );
  const named = (curve) => [h("span", { class: `key c${colour(curve)}` }), h("b", {}, number(curve.points.at(-1)[1]))];
  const legend = several
    ? labels.map((label) =>
        h(
          "span",
          {},
          labels.length > 1 ? [sample(dash({ label })), h("span", { title: label }, short(label)), " "] : null,
          curves.filter((curve) => curve.label === label).map((curve) => h("span", { class: "of" }, named(curve))),
        ),
      )
    : curves.map((curve) => h("span", { title: curve.label }, named(curve), " ", short(curve.label)));
  const smooth =
    panel.smooth && curves.some((curve) => curve.points.length > 2 * SMOOTH) ? `, bold: mean of ${SMOOTH} steps` : "";
  const without = panel.without.filter((run) => chosen.includes(run));
  return h(
    "figure",
    { class: "panel" },
    h("figcaption", {}, h("b", {}, title), " ", h("span", { class: "dim" }, panel.unit + smooth)),
    readable(svg, curves, scale, several),
    h("div", { class: "legend" }, legend),
    without.length && !panel.stacked ? h("p", { class: "without" }, `not in ${without.join(", ")}`) : null,
  );
}

const sample = (dash) =>
  s(
    "svg",
    { class: "dash", viewBox: "0 0 22 6" },
    s("line", { x1: 0, y1: 3, x2: 22, y2: 3, "stroke-dasharray": dash }),
  );

// The values under the pointer, as text below the picture.
function readable(svg, curves, scale, several) {
  const reading = h("p", { class: "reading" });
  const rule = s("line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  svg.append(rule);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const step = scale.step(((event.clientX - box.left) / box.width) * WIDTH);
    const near = curves.map((curve) => [
      curve,
      curve.points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best)),
    ]);
    const at = near[0][1][0];
    rule.setAttribute("x1", scale.x(at));
    rule.setAttribute("x2", scale.x(at));
    rule.setAttribute("visibility", "visible");
    reading.textContent =
      `step ${at}: ` +
      near
        .map(([curve, point]) => `${several ? `${curve.run} ` : ""}${short(curve.label)} ${number(point[1])}`)
        .join(", ");
  });
  svg.addEventListener("pointerleave", () => {
    rule.setAttribute("visibility", "hidden");
    reading.textContent = "";
  });
  return [svg, reading];
}

function scaled(curves, zero) {
  const values = curves.flatMap((curve) => curve.points.map((point) => point[1]));
  return scaleOf(curves, zero ? Math.min(0, ...values) : Math.min(...values), Math.max(...values));
}

function stackScale(curves) {
  const totals = new Map();
  for (const curve of curves)
    for (const [step, value] of curve.points) totals.set(step, (totals.get(step) ?? 0) + value);
  return scaleOf(curves, 0, Math.max(...totals.values()), gapOf([...totals.keys()]) / 2);
}

// Between two steps, as near as they come at the start.
function gapOf(steps) {
  const ordered = steps.sort((a, b) => a - b);
  return ordered.length > 1 ? ordered[1] - ordered[0] : 1;
}

// `beyond`: steps after the last one that still have room.
function scaleOf(curves, low, high, beyond = 0) {
  if (low === high) [low, high] = low === 0 ? [0, 0.1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const room = (high - low) * 0.06;
  const bottom = low === 0 ? 0 : low - room,
    top = high + room;
  const last = Math.max(1, ...curves.map((curve) => curve.points.at(-1)[0]));
  const end = last + beyond;
  const wide = WIDTH - LEFT - RIGHT,
    tall = HEIGHT - TOP - BOTTOM;
  return {
    bottom,
    top,
    last,
    x: (step) => LEFT + (step / end) * wide,
    y: (value) => TOP + (1 - (value - bottom) / (top - bottom)) * tall,
    step: (x) => ((x - LEFT) / wide) * end,
  };
}

function axes(scale) {
  const rows = ticks(scale.bottom, scale.top, 4).map((value) => [
    s("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: scale.y(value), y2: scale.y(value) }),
    s("text", { x: LEFT - 6, y: scale.y(value) + 4, "text-anchor": "end" }, number(value)),
  ]);
  const steps = ticks(0, scale.last, 5)
    .filter(Number.isInteger)
    .map((step) => s("text", { x: scale.x(step), y: HEIGHT - 6, "text-anchor": "middle" }, number(step)));
  return [rows, steps];
}

function ticks(low, high, about) {
  const raw = (high - low) / about;
  const size = 10 ** Math.floor(Math.log10(raw));
  const width = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((step) => step >= raw);
  const found = [];
  for (let value = Math.ceil(low / width) * width; value <= high + width * 1e-9; value += width)
    found.push(Number(value.toPrecision(12)));
  return found;
}

function line(curve, scale, smooth, colour, dash) {
  const place = ([step, value]) => `${scale.x(step).toFixed(1)},${scale.y(value).toFixed(1)}`;
  const path = (points, extra) =>
    s("polyline", {
      class: `curve c${colour} ${extra}`,
      points: points.map(place).join(" "),
      "stroke-dasharray": dash,
    });
  const dots =
    curve.points.length < 15
      ? curve.points.map(([step, value]) =>
          s("circle", { class: `dot c${colour}`, cx: scale.x(step), cy: scale.y(value), r: 2.2 }),
        )
      : [];
  if (!smooth || curve.points.length <= 2 * SMOOTH) return [path(curve.points, ""), dots];
  const means = curve.points.map(([step], i) => {
    const near = curve.points.slice(Math.max(0, i - SMOOTH + 1), i + 1);
    return [step, near.reduce((sum, point) => sum + point[1], 0) / near.length];
  });
  return [path(curve.points, "pale"), path(means, "")];
}

function bars(curves, scale) {
  const below = new Map();
  const steps = new Set(curves.flatMap((curve) => curve.points.map((point) => point[0])));
  const width = Math.max(1, (scale.x(gapOf([...steps])) - scale.x(0)) * 0.9);
  return curves.map((curve, index) =>
    curve.points.map(([step, value]) => {
      const low = below.get(step) ?? 0;
      below.set(step, low + value);
      const left = Math.max(LEFT, scale.x(step) - width / 2);
      return s("rect", {
        class: `bar c${index % COLOURS}`,
        x: left,
        width,
        y: scale.y(low + value),
        height: Math.max(0, scale.y(low) - scale.y(low + value)),
      });
    }),
  );
}
