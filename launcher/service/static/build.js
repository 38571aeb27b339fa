// The build view: builds what the address names, shows how, and goes on into JupyterLab.
//
// Nothing is kept here that a reload would lose: the address says what is built, its fragment (`#build=<id>`) which
// build is shown, the history entry which launch. The API has the rest.

import { ask, follow } from "./api.js";
import { showComposition } from "./composition.js";
import { fact, find, link, make, say } from "./dom.js";
import { Log } from "./log.js";
import { followLaunch, openServer } from "./opening.js";
import { inLine, Timeline } from "./timeline.js";
import { repoName, seconds, sentence, versionOf } from "./words.js";

const ENDED = new Set(["built", "failed", "cancelled"]);
const { provider, spec } = document.body.dataset;
const query = new URLSearchParams(location.search);
const asked = { provider, spec };
for (const name of ["base", "as_of"]) if (query.get(name)) asked[name] = query.get(name);

const state = find("#state");
const timeline = new Timeline(find("#timeline"));
const log = new Log({ box: find("#log"), search: find("#search"), count: find("#count"), follow: find("#follow") });
let job = null;
let stopFollowing = () => {};
let waiting;

/** Show nothing of an earlier failure. */
function afresh() {
  find("#failure").hidden = true;
  find("#going").hidden = false;
  find("#progress").hidden = false;
  find("#timeline").after(find("#actions"));
}

function tell(kind, text, title = text) {
  state.dataset.state = kind;
  say(find("#state-text"), text);
  document.title = `${title} · ${find("#repository").textContent}`;
}

function offer(...names) {
  for (const button of document.querySelectorAll("#actions [data-action]")) button.hidden = !names.includes(button.dataset.action);
}

function showJob(fresh) {
  job = fresh;
  say(find("#repository"), repoName(job.repo));
  find("#facts").replaceChildren(
    ...[
      fact("Version", versionOf(job)),
      fact("Commit", make("code", { title: job.commit }, job.commit.slice(0, 12))),
      fact("Repository", link(job.repo, repoName(job.repo))),
      fact("Base", job.base),
      fact("Packages as of", job.as_of),
    ].filter(Boolean),
  );
  find("#download").href = job.log;
  find("#log-card").hidden = false;
  history.replaceState(history.state, "", `#build=${job.id}`);
}

/** Say where in the queue the job is, for as long as it is: nobody tells when others before it are done. */
function waitInLine(position) {
  tell("running", `Waiting for a builder: ${inLine(position)}`, "Waiting");
  waiting = setInterval(async () => {
    const now = await ask("GET", `/api/builds/${job.id}`).catch(() => null);
    if (now?.state !== "queued" || timeline.running?.name !== "queue") return;
    say(timeline.rows.get("queue").what, inLine(now.position));
    tell("running", `Waiting for a builder: ${inLine(now.position)}`, "Waiting");
  }, 5000);
}

/** Show a job and stay with it until it has ended; `then` is called when it is built. */
function watch(fresh, then) {
  stopFollowing();
  afresh();
  timeline.clear();
  log.clear();
  showJob(fresh);
  tell("running", "Building the image", "Building");
  offer(...(job.mine ? ["cancel"] : []));
  stopFollowing = follow(job.events, {
    onLost: (lost) => (find("#lost").hidden = !lost),
    onRefused: (error) => fail(error.message, "again"),
    onEvent: (event) => {
      timeline.take(event);
      log.take(event);
      if (event.kind === "start") tell("running", timeline.doing(event.phase), "Building");
      if (event.kind !== "state") return false;
      clearInterval(waiting);
      if (event.state === "queued") waitInLine(event.position);
      if (event.state === "running") tell("running", "Building the image", "Building");
      if (!ENDED.has(event.state)) return false;
      ended(event, then);
      return true;
    },
  });
}

async function ended(event, then) {
  try {
    showJob(await ask("GET", `/api/builds/${job.id}`));
  } catch (error) {
    fail(error.message, "again");
    return;
  }
  if (event.state === "built") {
    showRecord();
    then();
  } else if (event.state === "cancelled") {
    tell("failed", "This build was cancelled", "Cancelled");
    offer("again");
  } else {
    fail(job.message || "the build ended without saying why", "again", "The image could not be built");
  }
}

function offerLaunch() {
  tell("done", "The image is built", "Built");
  offer("launch", "rebuild");
}

async function showRecord() {
  const parameters = new URLSearchParams(Object.entries(asked).filter(([name]) => name === "base" || name === "as_of"));
  const path = `/api/images/${provider}/${spec}${parameters.size ? `?${parameters}` : ""}`;
  try {
    showComposition(find("#composition"), await ask("GET", path));
  } catch {
    find("#composition").hidden = true; // the image is there, or else the launch says what is wrong
  }
}

function fail(message, action, title = "This did not work", advice = adviceFor(title)) {
  stopFollowing();
  clearInterval(waiting);
  tell("failed", title, "Failed");
  say(find("#failure-title"), title);
  say(find("#failure-sentence"), sentence(message));
  say(find("#failure-advice"), advice);
  find("#failure").hidden = false;
  find("#failure").append(find("#actions"));
  find("#failure").focus();
  find("#going").hidden = true;
  find("#progress").hidden = !job; // nothing has begun
  offer(action, ...(action === "launch" ? ["rebuild"] : []));
}

function adviceFor(title) {
  if (title.includes("built")) {
    return "If it is about a file of the repository: change it there, push, and try again. If it is about the network or a package index, trying again may be all it takes. The log below has every step.";
  }
  return "Try again in a moment. If it stays like this, tell the people who run this service and give them the address of this page.";
}

/** Say why the service refused, with what can be done about it. */
function refused(error, action) {
  const wait = error.retryAfter ? ` It can be tried again in ${seconds(error.retryAfter)}.` : "";
  const advice = {
    400: "Check the address and its parameters.",
    401: "Sign in, then try again.",
    403: "Ask the people who run this service if you think that this is a mistake.",
    404: `Check the address: is the repository public, is the branch spelled right?${find("a[href='/tokens']") ? " For a private one, keep a token of yours under Tokens." : ""}`,
    429: `You have as many as you may have at once, or asked too often.${wait} Stopping a server under My servers makes room.`,
  }[error.status] ?? `The service is busy or not well.${wait} Try again in a moment.`;
  fail(error.message, action, "This can't be launched", advice);
}

async function build({ rebuild = false } = {}) {
  offer();
  afresh();
  find("#composition").hidden = true;
  tell("running", "Looking for the repository", "Looking");
  try {
    watch(await ask("POST", rebuild && job ? `/api/builds/${job.id}/rebuild` : "/api/builds", rebuild && job ? {} : asked), launch);
  } catch (error) {
    refused(error, "again");
  }
}

async function launch() {
  offer();
  afresh();
  const wanted = { build: job.id };
  for (const name of ["workers", "cores"]) if (query.get(name)) wanted[name] = Number(query.get(name));
  if (query.get("memory")) wanted.memory = query.get("memory");
  if (document.body.dataset.path) wanted.urlpath = document.body.dataset.path;
  tell("running", "Starting your server", "Starting");
  timeline.begin("start", timeline.now(), "asking JupyterHub for a server");
  try {
    const launched = await ask("POST", "/api/launches", wanted);
    history.replaceState({ launch: { events: launched.events, path: launched.path } }, "");
    starting(launched);
  } catch (error) {
    timeline.finish("failed", timeline.now());
    refused(error, "launch");
  }
}

function starting({ events, path }) {
  if (timeline.running?.name !== "start") timeline.begin("start", timeline.now(), "asking JupyterHub for a server");
  tell("running", "Starting your server", "Starting");
  offer();
  const bar = timeline.rows.get("start");
  stopFollowing = followLaunch(events, {
    onLost: (lost) => (find("#lost").hidden = !lost),
    onMessage: (event) => {
      bar.progress(0, 0);
      if (event.progress) bar.bar.hidden = false;
      bar.bar.max = 100;
      bar.bar.value = event.progress ?? 0;
      if (event.message) {
        say(bar.what, event.message.trim());
        log.take({ kind: "message", message: event.message.trim(), time: timeline.now() });
      }
    },
    onReady: (event) => {
      timeline.finish("done", timeline.now(), "");
      const ready = { ...event, path: event.path || path };
      tell("done", "Your server is ready", "Ready");
      offer("open");
      find("#actions [data-action=open]").onclick = () => openServer(ready);
      const { launch: kept } = history.state ?? {};
      if (!kept?.opened) {
        history.replaceState({ launch: { ...kept, opened: true } }, ""); // so that going back does not lead here again
        openServer(ready);
      }
    },
    onFailed: (event) => {
      timeline.finish("failed", timeline.now());
      history.replaceState(null, "");
      fail(event.message || "the server did not start", "launch", "Your server did not start");
    },
  });
}

async function cancel() {
  try {
    await ask("DELETE", `/api/builds/${job.id}`);
    tell("running", "Cancelling the build", "Cancelling");
  } catch (error) {
    fail(error.message, "again");
  }
}

const actions = { again: build, rebuild: () => build({ rebuild: true }), launch, cancel };
for (const button of document.querySelectorAll("#actions [data-action]")) {
  const action = actions[button.dataset.action];
  if (action) button.addEventListener("click", () => action());
}

async function begin() {
  const id = new URLSearchParams(location.hash.slice(1)).get("build");
  const known = id && (await ask("GET", `/api/builds/${encodeURIComponent(id)}`).catch(() => null));
  if (!known) return build();
  const kept = history.state?.launch;
  if (kept) return watch(known, () => starting(kept));
  return watch(known, ENDED.has(known.state) ? offerLaunch : launch);
}

begin();
