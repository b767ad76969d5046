// A completion token by token, coloured by how likely the sampler found each, by how much likelier the learner finds it,
// or by the weights that drew it.

import { h, note, number } from "./dom.js";

const SHADES = 6; // from sure to surprised
const SURPRISE = 6; // nats that are the darkest
const APART = [0.01, 0.05, 0.2, 1]; // nats between learner and sampler, from which a shade begins
let lastMode = "log-prob"; // what was chosen last is what the next completion begins with

export function tokenView(found) {
  const versions = [...new Set(found.versions ?? [])].sort((a, b) => a - b);
  const modes = {
    "log-prob": { of: (i) => shade(found.logprobs[i]), key: shadeKey },
    mismatch: { of: (i) => mismatchShade(found.mismatch?.[i]), key: () => mismatchKey(found) },
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
  const change = (event) => colour((lastMode = event.target.value));
  const select = h("select", { "aria-label": "colour tokens by", onchange: change }, options);
  select.value = lastMode in modes ? lastMode : "log-prob";
  colour(select.value);
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

// `up`: the learner finds the token likelier than the sampler did.
function mismatchShade(nats) {
  const level = APART.filter((least) => Math.abs(nats ?? 0) >= least).length;
  return level ? `${nats > 0 ? "up" : "down"}${level}` : "none";
}

function mismatchKey(found) {
  if (!found.mismatch) return [h("span", { class: "said" }, found.unmatched)];
  const shades = (way, sign) => APART.map((least, i) => sample(`${way}${i + 1}`, `${sign}${least}`));
  const said = h("span", { class: "said" }, "learner's log-prob minus the sampler's, in nats");
  return [said, ...shades("down", "-").reverse(), ...shades("up", "+")];
}

const sample = (kind, name) => h("span", { class: `token ${kind}` }, name);

function told(found, i) {
  const logprob = found.logprobs[i];
  const likely = logprob === null ? "no log-prob" : `log-prob ${number(logprob)}, probability ${number(Math.exp(logprob))}`;
  const apart = found.mismatch?.[i];
  const learner = apart == null ? "" : `, learner ${apart < 0 ? "" : "+"}${number(apart)} nats`;
  return likely + learner + (found.versions ? `, weights ${found.versions[i]}` : "");
}
