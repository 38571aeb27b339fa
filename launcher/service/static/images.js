// Images: what was built here, how big it is, who shares it.

import { ask } from "./api.js";
import { fact, find, link, make, say } from "./dom.js";
import { ago, bytes, many, repoName, versionOf } from "./words.js";

const list = find("#images");
const search = find("#search");

function row(image) {
  const name = repoName(image.repo);
  const launched = image.last_launched
    ? make("time", { datetime: image.last_launched, title: image.last_launched }, ago(image.last_launched))
    : "never";
  const element = make(
    "li",
    {},
    make(
      "div",
      {},
      make("h3", {}, link(image.repo, name)),
      make(
        "dl",
        { class: "facts" },
        fact("Version", versionOf(image)),
        fact("Commit", make("code", { title: image.commit }, image.commit.slice(0, 12))),
        fact("Size", bytes(image.bytes)),
        fact("Last launched", launched),
        fact("Launches", String(image.launches)),
        fact("Shared by", many(image.shared_by, "person", "people")),
      ),
    ),
    make(
      "div",
      { class: "actions" },
      make("a", { class: "button primary", href: `/v2/${image.provider}/${image.spec}`, "aria-label": `Launch ${name}` }, "Launch"),
    ),
  );
  element.dataset.text = `${image.repo} ${image.ref} ${image.commit}`.toLowerCase();
  return element;
}

function filter() {
  const wanted = search.value.trim().toLowerCase();
  for (const element of list.children) element.hidden = !element.dataset.text.includes(wanted);
  const shown = [...list.children].filter((element) => !element.hidden).length;
  say(find("#count"), wanted ? `${shown} of ${many(list.children.length, "image")}` : many(list.children.length, "image"));
}

search.addEventListener("input", filter);
try {
  const images = await ask("GET", "/api/images");
  list.replaceChildren(...images.map(row));
  find("#none").hidden = images.length > 0;
  find("#finding").hidden = images.length === 0;
  find("#loading").hidden = true;
  filter();
} catch (error) {
  say(find("#loading"), error.message);
}
