// Pictures and videos of a prompt, with the places that its gold and one of its completions name.

import { h, s } from "./dom.js";

const SMALL = 200; // pixels; enlarged, they are seen and not smeared

// `node` with the media of the group, and `mark`, which draws the places of another completion.
export function mediaView(group) {
  const alone = group.pictures.length === 1; // of several it is not known whose a place is
  const any = group.gold_places.shapes.length || group.completions.some((one) => one.places.shapes.length);
  const name = h("span", {});
  const pictures = group.pictures.map((picture) => pictureView(picture, alone ? group.gold_places : null));
  const key = h("p", { class: "keys" }, h("span", { class: "key gold" }), "gold", h("span", { class: "key found" }), name);
  const shown = [pictures.map((picture) => picture.node), videos(group), alone && any ? key : null];
  return {
    node: h("div", { class: "pictures" }, shown),
    mark(one) {
      name.textContent = `completion ${numberOf(one.uid)}`;
      for (const picture of pictures) picture.mark(one.places);
    },
  };
}

// Of a completion within its group.
export const numberOf = (uid) => uid.split("/").at(-1);

function pictureView(picture, gold) {
  const caption = h("figcaption", {}, picture.name);
  if (!picture.sha256) return { node: h("figure", {}, placeholder("no picture is kept"), caption), mark() {} };
  const image = h("img", { src: `/media/${picture.sha256}`, alt: "picture of the prompt", loading: "lazy" });
  const frame = h("div", { class: "frame" }, image);
  let found = null;
  const draw = () => {
    if (!gold || !found || !image.naturalWidth) return;
    frame.replaceChildren(image, placesView(gold, "gold", image), placesView(found, "found", image));
  };
  image.addEventListener("load", () => {
    frame.classList.toggle("small", image.naturalWidth < SMALL);
    draw();
  });
  image.addEventListener("error", () => frame.replaceChildren(placeholder("the picture cannot be shown")));
  const mark = (places) => {
    found = places;
    draw();
  };
  return { node: h("figure", {}, frame, caption), mark };
}

function placesView(places, kind, image) {
  const pixels = [image.naturalWidth, image.naturalHeight];
  const [wide, tall] = { "0-999": [999, 999], "0-1": [1, 1] }[places.space] ?? pixels;
  const box = { class: `places ${kind}`, viewBox: `0 0 ${wide} ${tall}`, preserveAspectRatio: "none" };
  return s("svg", box, places.shapes.map(shapeView));
}

function shapeView(shape) {
  const title = shape.name ? s("title", {}, shape.name) : null;
  const corners = shape.corners.length === 2 ? rectangle(...shape.corners) : shape.corners;
  // A stroke of no length with round ends is a dot of the stroke's width, whatever the axes are scaled by.
  if (corners.length === 1) return s("path", { class: "point", d: `M${corners[0].join(" ")}h0` }, title);
  return s("polygon", { points: corners.map((corner) => corner.join(",")).join(" ") }, title);
}

function rectangle(upper, lower) {
  return [upper, [lower[0], upper[1]], lower, [upper[0], lower[1]]];
}

function videos(group) {
  return group.videos.map((video) => {
    const view = video.sha256
      ? h("video", { src: `/media/${video.sha256}`, controls: true, preload: "metadata" })
      : placeholder("a folder of frames, or nothing is kept");
    const moments = video.seconds.slice(0, 40).join(", ");
    return h("figure", {}, view, h("figcaption", {}, `${video.name}, frames at ${moments} s`));
  });
}

const placeholder = (text) => h("div", { class: "placeholder" }, text);
