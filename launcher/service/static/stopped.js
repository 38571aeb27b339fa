// The page of a server that is gone: find which it was, and offer to start it again.

import { ask } from "./api.js";
import { find, say } from "./dom.js";
import { followLaunch, openServer } from "./opening.js";
import { repoName } from "./words.js";

const news = find("#news");
const start = find("#start");

/** Return the server whose address this page's address is below. */
const isHere = (server) => location.pathname.startsWith(server.url);

function begin(server) {
  start.disabled = true;
  say(news, "Starting it again");
  ask("POST", `/api/servers/${server.id}/start`)
    .then(() =>
      followLaunch(server.events, {
        onLost: () => {},
        onMessage: (event) => say(news, event.message ?? ""),
        onReady: openServer,
        onFailed: (event) => {
          start.disabled = false;
          say(news, event.message);
        },
      }),
    )
    .catch((error) => {
      start.disabled = false;
      say(news, error.message);
    });
}

try {
  const servers = await ask("GET", "/api/servers");
  const server = servers.find(isHere);
  if (server) {
    say(news, `It ran ${repoName(server.repo)}.`);
    start.hidden = !server.resumable;
    start.addEventListener("click", () => begin(server));
    if (server.spec) {
      const anew = find("#anew");
      anew.href = `/v2/${server.provider}/${server.spec}`;
      anew.hidden = false;
    }
  }
} catch {
  // Without the list there is still the way to the start page.
}
