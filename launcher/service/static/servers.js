// My servers: open, stop, start again.

import { ask } from "./api.js";
import { fact, find, make, say } from "./dom.js";
import { followLaunch, openServer } from "./opening.js";
import { ago, repoName, versionOf } from "./words.js";

const WORDS = { ready: "Running", starting: "Starting", stopped: "Stopped", failed: "Did not start" };
const DOTS = { ready: "done", starting: "running", stopped: "waiting", failed: "failed" };
const list = find("#servers");
const news = find("#news");

function row(server) {
  const name = repoName(server.repo);
  const note = make("p", { class: "muted small wide", hidden: !server.message }, server.message ?? "");
  const actions = make("div", { class: "actions" });
  const element = make(
    "li",
    {},
    make(
      "div",
      {},
      make("h3", {}, name),
      make(
        "dl",
        { class: "facts" },
        fact("State", make("span", { class: "tag", "data-state": DOTS[server.state] }, make("span", { class: "dot" }), WORDS[server.state])),
        fact("Version", versionOf(server)),
        fact("Commit", make("code", {}, (server.commit ?? "").slice(0, 12))),
        fact("Started", make("time", { datetime: server.created, title: server.created }, ago(server.created))),
      ),
    ),
    actions,
    note,
  );
  const press = (text, kind, act) =>
    make("button", { type: "button", class: kind, "aria-label": `${text}: ${name}`, on: { click: () => run(act) } }, text);
  const run = async (act) => {
    for (const button of actions.children) button.disabled = true;
    try {
      await act();
    } catch (error) {
      note.hidden = false;
      note.textContent = error.message;
      for (const button of actions.children) button.disabled = false;
    }
  };
  const open = () =>
    followLaunch(server.events, {
      onLost: () => {},
      onMessage: (event) => {
        note.hidden = !event.message;
        say(note, event.message ?? "");
      },
      onReady: openServer,
      onFailed: async (event) => {
        await show();
        say(news, `${name}: ${event.message}`);
      },
    });
  const stop = async () => {
    say(news, `Stopping ${name}`);
    await ask("DELETE", `/api/servers/${server.id}`);
    await show();
    say(news, `${name} has stopped.`);
    news.focus();
  };
  const start = async () => {
    say(news, `Starting ${name}`);
    await ask("POST", `/api/servers/${server.id}/start`);
    open();
  };
  const remove = async () => {
    await ask("DELETE", `/api/servers/${server.id}?remove=true`);
    await show();
    say(news, `${name} is removed.`);
    news.focus();
  };
  const again = `/v2/${server.provider}/${server.spec}`;
  if (server.state === "ready") actions.append(press("Open", "primary", () => open()), press("Stop", "danger", stop));
  if (server.state === "starting") actions.append(press("Open when ready", "primary", () => open()), press("Stop", "danger", stop));
  if (server.resumable) actions.append(press("Start again", "primary", start), press("Remove", "danger", remove));
  if (["failed", "stopped"].includes(server.state) && server.spec) {
    actions.append(make("a", { class: "button", href: again, "aria-label": `Launch anew: ${name}` }, "Launch anew"));
  }
  return element;
}

async function show() {
  try {
    const servers = await ask("GET", "/api/servers");
    list.replaceChildren(...servers.map(row));
    find("#none").hidden = servers.length > 0;
    find("#loading").hidden = true;
  } catch (error) {
    say(find("#loading"), error.message);
    find("#loading").hidden = false;
  }
}

show();
