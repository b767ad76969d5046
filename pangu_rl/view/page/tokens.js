// A completion token by token, coloured by how likely the sampler found each, or by the weights that drew it.

import { h, number } from "./dom.js";

const STEPS = 6; // shades, from sure to surprised
const SURPRISE = 6; // nats that are the darkest

const shade = (logprob) => (logprob === null ? "none" : `p${Math.min(STEPS - 1, Math.floor((-logprob / SURPRISE) * STEPS))}`);

export function tokenView(found) {
  const versions = found.versions ? [...new Set(found.versions)].sort((a, b) => a - b) : [];
  const modes = { "log-prob": (i) => shade(found.logprobs[i]), plain: () => "none" };
  if (versions.length > 1) modes["weight version"] = (i) => `v${versions.indexOf(found.versions[i]) % 8}`;
  const spans = found.pieces.map((piece, i) => h("span", {
    class: "token",
    title: `${found.logprobs[i] === null ? "no log-prob" : `log-prob ${number(found.logprobs[i])}, probability ${number(Math.exp(found.logprobs[i]))}`}${found.versions ? `, weights ${found.versions[i]}` : ""}`,
  }, piece));
  const key = h("span", { class: "legend" });
  const colour = (mode) => {
    spans.forEach((span, i) => { span.className = `token ${modes[mode](i)}`; });
    const shades = mode === "log-prob"
      ? Array.from({ length: STEPS }, (_, i) => h("span", { class: `token p${i}` }, i === 0 ? "sure" : i === STEPS - 1 ? `below e^-${SURPRISE - 1}` : "\u00a0\u00a0"))
      : mode === "plain" ? [] : versions.map((version, i) => h("span", { class: `token v${i % 8}` }, `weights ${version}`));
    key.replaceChildren(...shades);
  };
  const select = h("select", { "aria-label": "colour tokens by", onchange: (event) => colour(event.target.value) },
    Object.keys(modes).map((mode) => h("option", { value: mode }, mode)));
  colour("log-prob");
  return h("div", { class: "tokens" }, h("div", { class: "tokenbar" }, select, key),
    found.note ? h("p", { class: "dim" }, found.note) : null, h("pre", { class: "answer" }, spans));
}
