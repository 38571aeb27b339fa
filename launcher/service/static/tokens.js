// Tokens for git hosts: one per host, written and deleted, never read.

import { ask } from "./api.js";
import { find, make, say } from "./dom.js";
import { ago } from "./words.js";

const news = find("#news");
const form = find("#add");

function row({ host, created, id }) {
  const forget = async () => {
    await ask("DELETE", `/api/credentials/${encodeURIComponent(id)}`).catch((error) => say(news, error.message));
    say(news, `The token for ${host} is deleted.`);
    news.focus();
    show();
  };
  return make(
    "li",
    {},
    make("div", {}, make("h3", {}, host), make("p", { class: "muted small" }, `kept since ${ago(created)}`)),
    make("button", { type: "button", class: "danger", "aria-label": `Delete the token for ${host}`, on: { click: forget } }, "Delete"),
  );
}

async function show() {
  try {
    const credentials = await ask("GET", "/api/credentials");
    find("#tokens").replaceChildren(...credentials.map(row));
  } catch (error) {
    say(news, error.message);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const host = find("#host").value.trim().toLowerCase();
  try {
    await ask("PUT", "/api/credentials", { host, token: find("#token").value });
    form.reset();
    say(news, `The token for ${host} is kept.`);
    show();
  } catch (error) {
    say(news, error.message);
  }
});

show();
