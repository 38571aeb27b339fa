// The log of a build: lines as they come, with search. Twenty thousand lines stay quick, since they are added once a
// frame and laid out only where they are seen.

import { make } from "./dom.js";

export class Log {
  constructor({ box, search, count, follow }) {
    Object.assign(this, { box, search, count, follow });
    this.clear();
    search.addEventListener("input", () => this.filter());
    follow.addEventListener("change", () => this.scroll());
    box.addEventListener("scroll", () => {
      const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      if (!atEnd && this.scrolled !== box.scrollTop) follow.checked = false;
    });
  }

  clear() {
    this.lines = [];
    this.fresh = [];
    this.began = null;
    this.box.replaceChildren();
    this.tell();
  }

  /** Take one event of a job; what has nothing to say is left out. */
  take(event) {
    this.began ??= event.time;
    const text = lineOf(event);
    if (!text) return;
    if (!this.fresh.length) requestAnimationFrame(() => this.flush());
    this.fresh.push({ text, after: event.time - this.began, bad: event.kind === "state" && event.state === "failed" });
  }

  flush() {
    const lines = this.fresh.splice(0);
    const fragment = document.createDocumentFragment();
    for (const line of lines) {
      line.body = make("span");
      line.element = make("div", { class: line.bad && "bad" }, make("time", {}, `${line.after.toFixed(1)} s`), line.body);
      this.paint(line);
      fragment.append(line.element);
    }
    this.lines.push(...lines);
    this.box.append(fragment);
    this.tell();
    this.scroll();
  }

  paint(line) {
    const wanted = this.wanted();
    const found = [];
    const text = line.text.toLowerCase();
    if (wanted) for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) found.push(at);
    line.element.hidden = Boolean(wanted) && !found.length;
    if (!found.length) {
      line.body.textContent = line.text;
      return;
    }
    const parts = [];
    let end = 0;
    for (const at of found) {
      parts.push(line.text.slice(end, at), make("mark", {}, line.text.slice(at, at + wanted.length)));
      end = at + wanted.length;
    }
    line.body.replaceChildren(...parts, line.text.slice(end));
  }

  filter() {
    this.lines.forEach((line) => this.paint(line));
    this.tell();
    this.scroll();
  }

  tell() {
    const all = this.lines.length;
    const shown = this.wanted() ? this.lines.filter((line) => !line.element.hidden).length : all;
    this.count.textContent = this.wanted() ? `${shown} of ${all} lines` : `${all} ${all === 1 ? "line" : "lines"}`;
  }

  wanted() {
    return this.search.value.trim().toLowerCase();
  }

  scroll() {
    if (!this.follow.checked) return;
    this.box.scrollTop = this.box.scrollHeight;
    this.scrolled = this.box.scrollTop;
  }
}

function lineOf({ kind, message, state, position, phase, seconds }) {
  if (kind === "progress") return "";
  if (kind === "state") {
    if (state === "queued") return message || (position > 1 ? `waiting, number ${position} in the queue` : "waiting for a builder");
    return message ? `${state}: ${message}` : state;
  }
  if (kind === "end") return `${phase}: ${message || "done"} (${(seconds ?? 0).toFixed(1)} s)`;
  return message ?? "";
}
