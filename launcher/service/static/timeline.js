// The phases of a build as a list: what each is, how far, how many bytes, how long.

import { make, say } from "./dom.js";
import { bytes, seconds } from "./words.js";

const PHASES = [
  ["queue", "Wait for a builder", "Waiting for a builder"],
  ["resolve", "Find the commit", "Finding the commit"],
  ["fetch", "Fetch the repository", "Fetching the repository"],
  ["lock", "Choose the packages", "Choosing the packages"],
  ["download", "Download what is new", "Downloading what is new"],
  ["layers", "Make the new layers", "Making the new layers"],
  ["push", "Store the image", "Storing the image"],
  ["start", "Start your server", "Starting your server"],
];
const USUAL = new Set(["queue", "fetch", "lock", "layers", "push", "start"]);
const STATES = { waiting: "to come", running: "in progress", done: "done", failed: "failed", skipped: "not needed" };

/** Return a place in the queue in words. */
export const inLine = (position) => (position > 1 ? `number ${position} in the queue` : "next in the queue");

class Row {
  constructor(name, title, doing, list) {
    this.name = name;
    this.doing = doing;
    this.spent = 0; // seconds, over all times the phase ran
    this.stateText = make("span", { class: "unseen" });
    this.took = make("span", { class: "took" });
    this.what = make("span", { class: "what" });
    this.bar = make("progress", { "aria-label": `${title}: progress`, hidden: true });
    const head = make("span", { class: "name" }, title, this.stateText);
    this.element = make("li", { hidden: !USUAL.has(name) }, make("span", { class: "dot" }), head, this.took, this.bar, this.what);
    list.append(this.element);
    this.set("waiting");
  }

  set(state) {
    this.state = state;
    this.element.dataset.state = state;
    this.stateText.textContent = ` (${STATES[state]})`;
    if (state === "running") this.element.setAttribute("aria-current", "step");
    else this.element.removeAttribute("aria-current");
    if (state !== "waiting") this.element.hidden = state === "skipped";
    if (state !== "running") this.bar.hidden = true;
  }

  begin(time, message) {
    this.began = time;
    this.set("running");
    say(this.what, message);
  }

  end(state, took, message) {
    this.spent += took;
    this.set(state);
    this.took.textContent = [bytes(this.count), seconds(this.spent)].filter(Boolean).join(" · ");
    if (message) say(this.what, message);
  }

  progress(done, total) {
    this.count = done;
    this.bar.hidden = !total;
    if (total) {
      this.bar.max = total;
      this.bar.value = Math.min(done, total);
    }
  }

  tick(now) {
    const running = seconds(Math.max(0, Math.round(now - this.began + this.spent)));
    this.took.textContent = [bytes(this.count), running.replace(".0 s", " s")].filter(Boolean).join(" · ");
  }
}

export class Timeline {
  constructor(list) {
    this.list = list;
    this.clear();
    setInterval(() => this.tick(), 1000);
  }

  /** Begin anew: nothing has happened. */
  clear() {
    this.list.replaceChildren();
    this.rows = new Map(PHASES.map(([name, title, doing]) => [name, new Row(name, title, doing, this.list)]));
    this.running = null;
    this.skew = null; // our clock minus the service's
  }

  /** Return what is done in a phase, in words. */
  doing(phase) {
    return this.rows.get(phase)?.doing ?? phase;
  }

  /** Take one event of a job. */
  take(event) {
    this.skew = Math.min(this.skew ?? Infinity, Date.now() / 1000 - event.time);
    const row = this.rows.get(event.phase);
    if (event.kind === "state") this.state(event);
    else if (event.kind === "start") this.begin(event.phase, event.time, event.message);
    else if (event.kind === "progress") row?.progress(event.done ?? 0, event.total ?? 0);
    else if (event.kind === "end" && row) {
      row.count = event.done || row.count;
      row.end("done", event.seconds ?? 0, event.message);
      if (this.running === row) this.running = null;
    } else if (event.kind === "message" && row && row === this.running) say(row.what, event.message);
  }

  begin(phase, time, message = "") {
    const row = this.rows.get(phase);
    if (!row) return;
    this.finish("done", time);
    row.began = time;
    row.begin(time, message);
    this.running = row;
  }

  finish(state, time, message = "") {
    if (!this.running) return;
    this.running.end(state, Math.max(0, time - this.running.began), message);
    this.running = null;
  }

  state({ state, time, position, attempt, message }) {
    if (state === "queued") {
      if (attempt > 1) this.restart();
      this.begin("queue", time, message || inLine(position));
    } else if (state === "running") {
      say(this.rows.get("queue").what, "");
      this.begin("resolve", time, "starting a builder");
    } else if (state === "built") {
      this.finish("done", time);
      this.skip("start");
    } else {
      this.finish("failed", time);
      for (const row of this.rows.values()) if (row.state === "waiting") row.set("skipped");
    }
  }

  /** Say that what did not run was not needed, up to a phase. */
  skip(upTo) {
    for (const [name, row] of this.rows) {
      if (name === upTo) return;
      if (row.state === "waiting") row.set("skipped");
    }
  }

  restart() {
    for (const row of this.rows.values()) if (row.name !== "queue") row.set("waiting");
  }

  now() {
    return Date.now() / 1000 - (this.skew ?? 0);
  }

  tick() {
    this.running?.tick(this.now());
  }
}
