// A completion token by token, coloured by how likely the sampler found each, or by the weights that drew it.

import { h, note, number } from "./dom.js";

const SHADES = 6; // from sure to surprised
const SURPRISE = 6; // nats that are the darkest

export function tokenView(found) {
  const versions = [...new Set(found.versions ?? [])].sort((a, b) => a - b);
  const modes = {
    "log-prob": { of: (i) => shade(found.logprobs[i]), key: shadeKey },
    plain: { of: () => "none", key: () => [] },
  };
  if (versions.length > 1) {
    const kind = (version) => `v${versions.indexOf(version) % 8}`;
    const key = () => versions.map((version) => sample(kind(version), `weights ${version}`));
    modes["weight version"] = { of: (i) => kind(found.versions[i]), key };
  }
  const tokens = found.pieces.map((piece, i) => h("span", { class: "token", title: told(found, i) }, piece));
  const key = h("span", { class: "legend" });
  const colour = (mode) => {
    tokens.forEach((token, i) => token.setAttribute("class", `token ${modes[mode].of(i)}`));
    key.replaceChildren(...modes[mode].key());
  };
  const options = Object.keys(modes).map((mode) => h("option", { value: mode }, mode));
  const change = (event) => colour(event.target.value);
  const select = h("select", { "aria-label": "colour tokens by", onchange: change }, options);
  colour("log-prob");
  const bar = h("div", { class: "tokenbar" }, select, key);
  return h("div", { class: "tokens" }, bar, found.note ? note(found.note) : null, h("pre", { class: "answer" }, tokens));
}

function shade(logprob) {
  return logprob === null ? "none" : `p${Math.min(SHADES - 1, Math.floor((-logprob / SURPRISE) * SHADES))}`;
}

function shadeKey() {
  const names = { 0: "sure", [SHADES - 1]: `below e^-${SURPRISE - 1}` };
  return Array.from({ length: SHADES }, (_, i) => sample(`p${i}`, names[i] ?? "\u00a0\u00a0"));
}

const sample = (kind, name) => h("span", { class: `token ${kind}` }, name);

function told(found, i) {
  const logprob = found.logprobs[i];
  const likely = logprob === null ? "no log-prob" : `log-prob ${number(logprob)}, probability ${number(Math.exp(logprob))}`;
  return found.versions ? `${likely}, weights ${found.versions[i]}` : likely;
}
