// One group: the prompt with its pictures and the places named in them, and its completions side by side.

import { ask } from "./api.js";
import { badge, h, number, short } from "./dom.js";
import { mediaView, numberOf } from "./pictures.js";
import { tokenView } from "./tokens.js";

const ENDS = { length: "cut at the limit", stop: "ended by the model" };
const SHOWN = 16;

export async function groupRoom(opened, asked) {
  const { run, step, uid } = asked;
  const group = await ask("group", { run, step, group: asked.group });
  const chosen = group.completions.find((one) => one.uid === uid);
  const ordered = chosen ? [chosen, ...group.completions.filter((one) => one !== chosen)] : group.completions;
  const media = mediaView(group);
  media.mark(ordered[0]);
  const cards = ordered.map((one) => card({ run, step }, one, one === chosen, () => media.mark(one)));
  const grid = h("div", { class: "completions" }, cards.slice(0, SHOWN));
  const facts = [
    run,
    group.source,
    `${group.completions.length} completions`,
    `${group.prompt_tokens} prompt tokens`,
    group.sampling ? `temperature ${group.sampling.temperature}` : "",
  ];
  const nodes = [
    h("h1", {}, `Step ${group.step}, group ${group.group}`),
    h("p", { class: "dim" }, facts.filter(Boolean).join(", ")),
    group.left_out ? h("p", { class: "bad" }, `${group.left_out} more completions are not shown`) : null,
    prompt(group, media),
    grid,
    cards.length > SHOWN ? rest(grid, cards.slice(SHOWN)) : null,
  ];
  return { nodes: nodes.filter(Boolean) };
}

function rest(grid, cards) {
  const button = h("button", {}, `${cards.length} more completions`);
  button.addEventListener("click", () => {
    button.remove();
    grid.append(...cards);
  });
  return button;
}

function prompt(group, media) {
  const said = group.messages.map(([role, text]) => [label(role), h("pre", {}, text)]);
  const gold = [label(`gold (${group.answer_type})`), h("pre", { class: "gold" }, group.gold)];
  const has = group.extra && group.extra !== "{}";
  const extra = has ? h("details", {}, h("summary", {}, "other columns"), h("pre", {}, group.extra)) : null;
  const texts = h("div", { class: "texts" }, said, gold, extra);
  const shown = group.pictures.length || group.videos.length ? media.node : null;
  return h("section", { class: "card prompt" }, h("div", { class: "body" }, shown, texts));
}

// `place` is where the completion is stored; `mark` draws its places.
function card(place, one, chosen, mark) {
  const facts = [
    `completion ${numberOf(one.uid)}`,
    `advantage ${number(one.advantage)}`,
    `${number(one.tokens)} tokens, ${ENDS[one.finish_reason] ?? one.finish_reason}`,
    `weights ${one.version}`,
    one.trained ? "" : "set aside, not trained",
  ];
  const spans = facts.filter(Boolean).map((fact) => h("span", {}, fact));
  const header = h("header", {}, h("b", {}, `reward ${number(one.reward)}`), badge(one.outcome), spans);
  const texts = h("div", { class: "texts" }, answer(place, one), parts(one), votes(one));
  const watched = { onpointerenter: mark, onfocusin: mark };
  return h("article", { class: chosen ? "card chosen" : "card", ...watched }, header, h("div", { class: "body" }, texts));
}

// The text, and token by token when it is asked for.
function answer(place, one) {
  const text = h("div", {}, h("pre", { class: "answer" }, one.text));
  const button = h("button", { class: "quiet" }, "colour by token");
  const problem = h("p", { class: "bad", hidden: true });
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      text.replaceChildren(tokenView(await ask("tokens", { ...place, uid: one.uid })));
      button.remove();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      button.disabled = false;
    }
  });
  return [text, button, problem];
}

function parts(one) {
  const rows = one.parts.map((part) => [
    h("td", { class: "left name", title: part.name }, short(part.name)),
    h("td", {}, number(part.value)),
    h("td", {}, badge(part.outcome)),
    h("td", { class: "left detail" }, part.detail),
  ]);
  return table(rows);
}

function votes(one) {
  if (!one.votes.length) return null;
  const rows = one.votes.map((vote) => [
    h("td", { class: "left name" }, `${vote.scorer}, ${vote.criterion}`),
    h("td", {}, vote.score),
    h("td", { class: "left detail" }, vote.reason),
  ]);
  const count = one.votes.length === 1 ? "1 scorer vote" : `${one.votes.length} scorer votes`;
  return h("details", { open: one.votes.length <= 3 }, h("summary", {}, count), table(rows));
}

const table = (rows) => h("table", { class: "parts" }, rows.map((cells) => h("tr", {}, cells)));
const label = (text) => h("div", { class: "label" }, text);
