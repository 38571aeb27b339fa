// The first page: understands what is pasted, offers the site's choices, makes links and badges.

import { ask } from "./api.js";
import { copy, fact, find, make, say } from "./dom.js";
import { described, launchPath, OPENING, PROVIDERS, readLink, shared, split, withRef } from "./naming.js";

const form = find("#launch");
const field = find("#address");
const ref = find("#ref");
const file = find("#file");
const understood = find("#understood");
const button = form.querySelector("button[type=submit]");

let found = null; // {provider, spec, opens: URLSearchParams, entry}
let asking = null; // the request under way
let timer;
let reading = Promise.resolve();

function show(kind, ...content) {
  understood.className = `understood ${kind}`;
  understood.replaceChildren(...content);
}

async function understand() {
  const text = field.value.trim();
  asking?.abort();
  found = null;
  if (!text) {
    show("", make("p", { class: "muted" }, understood.dataset.hint));
    return refresh();
  }
  asking = new AbortController();
  try {
    let named = readLink(text);
    if (/^[\w.-]+\/[\w.-]+$/.test(text) && !text.startsWith("10.")) {
      named = { provider: "gh", spec: `${text}/HEAD`, opens: new URLSearchParams() }; // user/repository, as people say it
    }
    if (!named || !PROVIDERS.has(named.provider)) {
      const pasted = await ask("POST", "/api/parse", { text }, asking.signal);
      named = { provider: pasted.provider, spec: pasted.spec, opens: new URLSearchParams(pasted.path && { labpath: pasted.path }) };
    }
    found = { ...named, entry: PROVIDERS.get(named.provider) };
    ref.value = split(found.entry, found.spec).ref.replace(/^HEAD$/, "");
    ref.disabled = !found.entry?.ref.enabled;
    file.value = OPENING.map((name) => found.opens.get(name)).find(Boolean) ?? "";
  } catch (error) {
    if (error.name === "AbortError") return;
    show("wrong", make("p", {}, make("strong", {}, "Not understood. "), error.message));
  }
  refresh();
}

/** Return what the form asks for now: what was pasted, and what was chosen besides. */
function wanted() {
  const parameters = new URLSearchParams();
  const kind = OPENING.find((name) => found.opens.get(name)) ?? "labpath";
  if (file.value.trim()) parameters.set(kind, file.value.trim());
  for (const input of form.querySelectorAll("[data-parameter]")) {
    if ((input.type !== "radio" || input.checked) && input.value) parameters.set(input.dataset.parameter, input.value);
  }
  const spec = found.entry?.ref.enabled ? withRef(found.entry, found.spec, ref.value.trim() || "HEAD") : found.spec;
  return { provider: found.provider, spec, parameters };
}

function refresh() {
  button.setAttribute("aria-disabled", String(!found));
  find("#share").hidden = !found;
  if (!found) return;
  const asked = wanted();
  const facts = described(found.entry, { ...asked, opens: asked.parameters });
  show(
    "found",
    make(
      "dl",
      { class: "facts" },
      fact("Where", facts.provider),
      fact("Repository", facts.repository),
      fact("Version", facts.ref),
      fact("Opens", facts.opens || "JupyterLab"),
    ),
  );
  for (const [name, text] of Object.entries(shared(location.origin + launchPath(asked)))) find(`#share-${name}`).value = text;
}

field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => (reading = understand()), 180);
});
form.addEventListener("change", refresh);
ref.addEventListener("input", refresh);
file.addEventListener("input", refresh);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(timer);
  if (!found) reading = understand();
  await reading;
  if (found) location.assign(launchPath(wanted()));
  else field.focus();
});
for (const copier of document.querySelectorAll("[data-copies]")) {
  copier.addEventListener("click", async () => {
    say(find("#copied"), "");
    await copy(find(`#${copier.dataset.copies}`), copier);
    say(find("#copied"), "Copied");
  });
}

function choice(base) {
  return make(
    "label",
    { class: "choice" },
    make("input", { type: "radio", name: "base", value: base.name, "data-parameter": "base" }),
    make("span", {}, base.title, make("span", { class: "hint" }, `${base.description} Python ${base.python}; its name is ${base.name}.`)),
  );
}

if (field.value) reading = understand(); // before what is awaited: whoever types meanwhile must not lose it
try {
  const bases = await ask("GET", "/api/bases");
  find("#bases").append(...bases.map(choice));
} catch (error) {
  say(find("#bases-hint"), `The list of base images can't be shown: ${error.message}`);
}
