// One group: the prompt with its pictures and the places named in them, and its completions side by side.

import { address, ask } from "./api.js";
import { badge, h, number, s, short } from "./dom.js";
import { tokenView } from "./tokens.js";

const ENDS = { length: "cut at the limit", stop: "ended by the model" };
const SHOWN = 16;

export async function groupRoom(opened, asked) {
  const group = await ask("group", { run: asked.run, step: asked.step, group: asked.group });
  const marked = new Map(group.completions.map((one) => [one.uid, one]));
  let marks = marked.get(asked.uid) ?? group.completions[0];
  const media = h("div", { class: "pictures" });
  const draw = () => media.replaceChildren(...pictures(group, marks), ...videos(group));
  draw();
  const cards = group.completions.map((one, index) => card(asked.run, group, one, index, one.uid === asked.uid, () => { marks = one; draw(); }));
  const more = cards.length > SHOWN ? h("button", { onclick: (event) => { event.target.remove(); grid.append(...cards.slice(SHOWN)); } }, `${cards.length - SHOWN} more completions`) : null;
  const first = cards.findIndex((_, index) => group.completions[index].uid === asked.uid);
  const ordered = first > 0 ? [cards[first], ...cards.filter((_, index) => index !== first)] : cards;
  const grid = h("div", { class: "completions" }, ordered.slice(0, SHOWN));
  return { nodes: [
    h("h1", {}, `Step ${group.step}, group ${group.group}`),
    h("p", { class: "dim" }, [asked.run, group.source, `${group.completions.length} completions`, `${group.prompt_tokens} prompt tokens`,
      group.sampling ? `temperature ${group.sampling.temperature}` : ""].filter(Boolean).join(", ")),
    group.left_out ? h("p", { class: "bad" }, `${group.left_out} more completions are not shown`) : null,
    h("section", { class: "card prompt" }, h("div", { class: "body" },
      group.pictures.length || group.videos.length ? media : null,
      h("div", { class: "texts" }, group.messages.map(([role, text]) => [h("div", { class: "label" }, role), h("pre", {}, text)]),
        h("div", { class: "label" }, `gold (${group.answer_type})`), h("pre", { class: "gold" }, group.gold),
        group.extra && group.extra !== "{}" ? h("details", {}, h("summary", {}, "other columns"), h("pre", {}, group.extra)) : null))),
    grid, more,
  ].filter(Boolean) };
}

function pictures(group, one) {
  const alone = group.pictures.length === 1;
  const key = alone && (group.gold_places.shapes.length || group.completions.some((other) => other.places.shapes.length))
    ? [h("p", { class: "keys" }, h("span", { class: "key gold" }), "gold", h("span", { class: "key found" }), `completion ${number_of(one.uid)}`)] : [];
  return [...group.pictures.map((picture) => {
    if (!picture.sha256) return h("figure", {}, h("div", { class: "placeholder" }, "no picture is kept"), h("figcaption", {}, picture.name));
    const image = h("img", { src: `/media/${picture.sha256}`, alt: "picture of the prompt", loading: "lazy" });
    const frame = h("div", { class: "frame" }, image);
    const overlay = () => {
      if (image.naturalWidth < 200) frame.classList.add("small"); // enlarged, its pixels are seen and not smeared
      frame.append(...(alone ? [places(group.gold_places, "gold", image), places(one.places, "found", image)] : []));
    };
    image.addEventListener("load", overlay, { once: true });
    image.addEventListener("error", () => frame.replaceChildren(h("div", { class: "placeholder" }, "the picture cannot be shown")), { once: true });
    return h("figure", {}, frame, h("figcaption", {}, picture.name));
  }), ...key];
}

function places(found, kind, image) {
  const [wide, tall] = { "0-999": [999, 999], "0-1": [1, 1] }[found.space] ?? [image.naturalWidth, image.naturalHeight];
  const shapes = found.shapes.map((shape) => {
    const points = shape.corners.length === 2 ? rectangle(shape.corners) : shape.corners;
    const title = shape.name ? [s("title", {}, shape.name)] : [];
    // A stroke of no length with round ends is a dot of the stroke's width, whatever the axes are scaled by.
    if (points.length === 1) return s("path", { class: "point", d: `M${points[0].join(" ")}h0` }, title);
    return s("polygon", { points: points.map((point) => point.join(",")).join(" ") }, title);
  });
  return s("svg", { class: `places ${kind}`, viewBox: `0 0 ${wide} ${tall}`, preserveAspectRatio: "none", "data-shapes": shapes.length }, shapes);
}

const rectangle = ([[left, top], [right, low]]) => [[left, top], [right, top], [right, low], [left, low]];
const number_of = (uid) => uid.split("/").at(-1);

function videos(group) {
  return group.videos.map((video) => h("figure", {},
    video.sha256 ? h("video", { src: `/media/${video.sha256}`, controls: true, preload: "metadata" }) : h("div", { class: "placeholder" }, "a folder of frames, or nothing is kept"),
    h("figcaption", {}, `${video.name}, frames at ${video.seconds.slice(0, 40).join(", ")} s`)));
}

function card(run, group, one, index, chosen, mark) {
  const text = h("div", {}, h("pre", { class: "answer" }, one.text));
  const tokens = h("button", { class: "quiet", onclick: async () => {
    tokens.disabled = true;
    try {
      text.replaceChildren(tokenView(await ask("tokens", { run, step: group.step, uid: one.uid })));
      tokens.remove();
    } catch (error) {
      text.append(h("p", { class: "bad" }, error.message));
    }
  } }, "colour by token");
  return h("article", { class: `card ${chosen ? "chosen" : ""}`, onpointerenter: mark, onfocusin: mark },
    h("header", {}, h("b", {}, `reward ${number(one.reward)}`), badge(one.outcome), h("span", {}, `completion ${number_of(one.uid)}`),
      h("span", {}, `advantage ${number(one.advantage)}`), h("span", {}, `${number(one.tokens)} tokens, ${ENDS[one.finish_reason] ?? one.finish_reason}`),
      h("span", {}, `weights ${one.version}`), one.trained ? null : h("span", {}, "set aside, not trained")),
    h("div", { class: "body" }, h("div", { class: "texts" }, text, tokens,
      h("table", { class: "parts" }, one.parts.map((part) => h("tr", {}, h("td", { class: "left name", title: part.name }, short(part.name)), h("td", {}, number(part.value)),
        h("td", {}, badge(part.outcome)), h("td", { class: "left detail" }, part.detail)))),
      one.votes.length ? h("details", { open: one.votes.length <= 3 }, h("summary", {}, one.votes.length === 1 ? "1 scorer vote" : `${one.votes.length} scorer votes`),
        h("table", { class: "parts" }, one.votes.map((vote) => h("tr", {}, h("td", { class: "left name" }, `${vote.scorer}, ${vote.criterion}`), h("td", {}, vote.score), h("td", { class: "left detail" }, vote.reason))))) : null)));
}
