// What an image is made of: what the base brings, what comes on top.

import { make } from "./dom.js";
import { bytes, many } from "./words.js";

const KEPT = {
  base: "in the base",
  mounted: "already in the registry",
  cached: "made before, stored now",
  uploaded: "made and stored now",
};

/** Fill `box` with what a record says. */
export function showComposition(box, record) {
  const { packages, layers } = record;
  const own = record.bytes.new;
  const base = Math.max(0, record.bytes.total - own);
  const strip = make("div", { class: "strip", "aria-hidden": "true" }, make("span"), make("span", { class: "is-added" }));
  [base, own].forEach((count, index) => (strip.children[index].style.flexGrow = String(count)));
  const added = [many(packages.added ?? 0, "package") + " added"];
  if (packages.replaced) added.push(`${packages.replaced} replaced`);
  const uploaded = record.bytes.uploaded ? `, ${bytes(record.bytes.uploaded)} of it new to the registry` : "";
  box.replaceChildren(
    make("h2", { id: "made-of" }, "What it is made of"),
    strip,
    make(
      "dl",
      { class: "facts" },
      make(
        "div",
        {},
        make("dt", {}, make("span", { class: "key" }), `From the base ${record.base.name}`),
        make("dd", {}, `${many(packages.from_base ?? 0, "package")}, ${bytes(base) || "0 kB"}`),
      ),
      make(
        "div",
        {},
        make("dt", {}, make("span", { class: "key is-added" }), "Added for this repository"),
        make("dd", {}, `${added.join(", ")}; ${bytes(own) || "0 kB"}${uploaded}`),
      ),
      make("div", {}, make("dt", {}, "Environment"), make("dd", {}, make("code", {}, record.env_id))),
    ),
    make(
      "details",
      { class: "more" },
      make("summary", {}, `All ${layers.length} layers`),
      make("ol", { class: "small" }, ...[...layers].reverse().map(layerOf)),
    ),
  );
  box.hidden = false;
}

const layerOf = (layer) =>
  make("li", {}, layer.what, " ", make("span", { class: "muted" }, `${bytes(layer.bytes)}, ${KEPT[layer.source] ?? layer.source}`));
