/* The Dask workers of this notebook server in JupyterLab's status bar, and on a click how they fare and how to scale them.
 *
 * It is written as JupyterLab loads it, so nothing builds it: a module federation container under window._JUPYTERLAB, with
 * `init` and `get`. JupyterLab's own modules come from the shared scope that `init` is given.
 */
(() => {
  "use strict";

  const SLOWLY = 5000; // milliseconds from one answer to the next question
  const OFTEN = 1500; // while the popup is open, or workers are starting
  const STYLE = `
    .cb-item { display: flex; }
    .cb-item > button { all: unset; cursor: pointer; padding: 0 6px; max-width: 48ch; overflow: hidden;
      white-space: nowrap; text-overflow: ellipsis; color: var(--jp-ui-font-color1); font-size: var(--jp-ui-font-size1);
      line-height: 24px; }
    .cb-item.jp-mod-clicked > button { color: #fff; }
    .cb-item > button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
    .cb-item > button[data-level]::before, .cb-panel li[data-level]::before { margin-right: 0.5em; }
    [data-level=delayed]::before { content: "\\25b2"; color: var(--jp-warn-color1); }
    [data-level=failed]::before { content: "\\2716"; color: var(--jp-error-color1); }
    [data-level=fine]::before { content: "\\25cf"; color: var(--jp-success-color1); }
    .cb-panel { box-sizing: border-box; width: 440px; max-width: min(440px, 90vw); max-height: 70vh; overflow: auto; padding: 12px 14px;
      color: var(--jp-ui-font-color1); background: var(--jp-layout-color1); border: 1px solid var(--jp-border-color1);
      font-size: var(--jp-ui-font-size1); line-height: 1.45; overflow-wrap: anywhere; }
    .cb-panel h2 { margin: 0; font-size: var(--jp-ui-font-size2); }
    .cb-panel h3 { margin: 12px 0 2px; font-size: var(--jp-ui-font-size1); }
    .cb-panel p { margin: 6px 0; }
    .cb-panel ul { margin: 8px 0; padding: 0; list-style: none; }
    .cb-panel li { padding: 1px 0 1px 1.4em; text-indent: -1.4em; }
    .cb-panel small, .cb-panel time { color: var(--jp-ui-font-color2); font-size: inherit; }
    .cb-panel time { margin-right: 0.6em; font-variant-numeric: tabular-nums; }
    .cb-panel form { display: flex; align-items: center; gap: 8px; margin: 10px 0 4px; }
    .cb-panel input { width: 5em; padding: 3px 6px; font: inherit; color: inherit; background: var(--jp-layout-color1);
      border: 1px solid var(--jp-border-color0); }
    .cb-panel form button { padding: 4px 12px; border: 0; border-radius: 2px; cursor: pointer; font: inherit;
      color: var(--jp-ui-inverse-font-color1, #fff); background: var(--jp-brand-color1); }
    .cb-panel :is(input, button, a):focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: 1px; }
    .cb-panel a { color: var(--jp-content-link-color, var(--jp-brand-color1)); }
    .cb-panel code { font-family: var(--jp-code-font-family); font-size: var(--jp-code-font-size); }
    .cb-panel [role=alert]:not(:empty) { color: var(--jp-error-color1); }`;

  let scope;

  /* Return JupyterLab's own copy of a package. */
  async function shared(name) {
    const copies = Object.values(scope[name] ?? {});
    const own = copies.find((copy) => copy.from === "@jupyterlab/application-top") ?? copies[0];
    if (!own) throw new Error(`casabinder: this JupyterLab shares no ${name}`);
    return (await own.get())();
  }

  /* Return a new element; text is only ever set as text. */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  /* Return how many workers fare how; a group of none is about the pool itself. */
  function inWords(group) {
    return group.count ? `${group.count} ${group.what}` : "the pool has a problem";
  }

  /* Return what the report says in a few words, and how bad it is: "", "delayed" or "failed". */
  function summary(report) {
    if (report.state !== "running") {
      const level = { failed: "failed", stopped: "delayed" }[report.state] ?? "";
      return [`Dask: ${report.state}`, level];
    }
    const parts = [`${report.workers} running`, ...report.groups.map(inWords)];
    const levels = report.groups.map((group) => group.level);
    return [`Dask: ${parts.join(", ")}`, ["failed", "delayed"].find((level) => levels.includes(level)) ?? ""];
  }

  /* Return the lines of the popup: [level, text, reason]. */
  function lines(report) {
    if (report.state !== "running") return [[summary(report)[1] || "fine", report.state, report.message]];
    const limit = report.maximum === null ? "" : `, at most ${report.maximum}`;
    const found = [["fine", `${report.workers} running${limit}`, ""]];
    for (const group of report.groups) found.push([group.level || "fine", inWords(group), group.reason]);
    if (report.idle) found.push(["fine", report.idle, ""]);
    if (report.automatic) found.push(["fine", `automatic scaling, ${report.automatic.join(" to ")} workers`, ""]);
    return found;
  }

  /* Replace what an element shows, unless it is the same: a screen reader would read it again. */
  function show(place, key, children) {
    if (place.dataset.key === key) return;
    place.dataset.key = key;
    place.replaceChildren(...children());
  }

  /* Return the popup's content as an element with a method `update`. */
  function makePanel(baseUrl, scale) {
    const where = element("p");
    const workers = element("ul", { "aria-label": "Workers" });
    const number = element("input", { type: "number", min: 0, step: 1, required: "", "aria-label": "Number of workers" });
    const form = element("form", {}, "Workers", number, element("button", { type: "submit" }, "Scale"));
    const trouble = element("p", { role: "alert" });
    const notices = element("ul", { "aria-label": "Latest notices" });
    const said = element("section", {}, element("h3", {}, "Latest notices"), notices);
    const dashboard = element("a", { target: "_blank", rel: "noopener" }, "Dask dashboard");
    const logs = element("code", {}, "FacilityCluster().logs()");
    const how = element("p", {}, dashboard, " \u00b7 Logs, in a notebook: ", logs);
    const heading = element("h2", {}, "Dask workers");
    const node = element("div", { class: "cb-panel", role: "dialog", "aria-label": "Dask workers" });
    node.append(heading, where, element("div", { role: "status" }, workers), form, trouble, said, how);

    let touched = false;
    number.addEventListener("input", () => (touched = true));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      trouble.textContent = "";
      try {
        await scale(number.valueAsNumber);
        touched = false;
      } catch (error) {
        trouble.textContent = error.message;
      }
    });

    node.update = (report) => {
      const pool = { htcondor: "HTCondor pool", local: "local workers" }[report.pool] ?? report.pool;
      const about = [pool, report.env_id && `environment ${report.env_id}`].filter(Boolean).join(", ");
      show(where, about, () => [element("small", {}, about)]);
      const told = lines(report);
      show(workers, JSON.stringify(told), () =>
        told.map(([level, text, reason]) => {
          const line = element("li", { "data-level": level }, text);
          if (reason) line.append(": ", element("small", {}, reason));
          return line;
        }),
      );
      form.hidden = report.state !== "running";
      if (report.maximum !== null) number.max = report.maximum;
      if (!touched) number.value = report.requested;
      said.hidden = report.notices.length === 0;
      show(notices, JSON.stringify(report.notices), () =>
        [...report.notices].reverse().map((notice) => {
          const when = new Date(notice.time * 1000);
          return element("li", {}, element("time", { datetime: when.toISOString() }, when.toLocaleTimeString()), notice.message);
        }),
      );
      how.hidden = report.state !== "running";
      if (report.dashboard) dashboard.href = baseUrl + report.dashboard;
    };
    node.focusFirst = () => (form.hidden ? node : number).focus();
    node.tabIndex = -1;
    return node;
  }

  async function makePlugin() {
    const names = ["@jupyterlab/statusbar", "@jupyterlab/services", "@lumino/widgets", "@lumino/signaling"];
    const [statusbar, services, widgets, signaling] = await Promise.all(names.map(shared));
    const { ServerConnection } = services;

    function activate(app, bar) {
      if (!bar) return; // an application without a status bar
      const settings = app.serviceManager.serverSettings;
      const url = `${settings.baseUrl}casabinder/api/session`;
      document.head.append(element("style", {}, STYLE));
      const button = element("button", { type: "button", "aria-haspopup": "dialog", "aria-expanded": "false" });
      const item = new widgets.Widget({ node: element("div", { class: "cb-item" }, button) });
      item.addClass("jp-mod-highlighted");
      const changed = new signaling.Signal(item);
      let report = null;
      let popup = null;
      let panel = null;
      let timer = 0;
      let failures = 0;

      /* Ask the server; an error has its sentence. */
      async function ask(path, body) {
        const request = body && { method: "POST", body: JSON.stringify(body) };
        const response = await ServerConnection.makeRequest(url + path, request ?? {}, settings);
        if (response.ok) return response.json();
        throw await ServerConnection.ResponseError.create(response);
      }

      /* Show the latest report. */
      function render() {
        const [text, level] = summary(report);
        if (button.textContent !== text) button.textContent = text;
        if (level) button.dataset.level = level;
        else delete button.dataset.level;
        const problems = { failed: "needs attention: ", delayed: "waiting: " }[level] ?? "";
        button.setAttribute("aria-label", problems + text);
        button.title = report.message || "How the Dask workers of this notebook fare";
        panel?.update(report);
      }

      /* Ask how the workers fare, show it, and come back later; a page that nobody sees does not ask. */
      async function poll() {
        clearTimeout(timer);
        if (document.hidden) return;
        try {
          report = await ask("");
          failures = 0;
          if (report.state === "off") return;
          render();
          changed.emit();
        } catch (error) {
          if (error.response?.status === 404) return; // a server without the extension
          failures = Math.min(failures + 1, 5);
        }
        const soon = popup || report?.state === "starting" || report?.groups.length;
        clearTimeout(timer);
        timer = setTimeout(poll, (soon ? OFTEN : SLOWLY) * (1 + failures));
      }

      function open() {
        panel = makePanel(settings.baseUrl, async (workers) => {
          await ask("/scale", { workers });
          await poll();
        });
        const body = new widgets.Widget({ node: panel });
        panel.update(report);
        popup = statusbar.showPopup({ body, anchor: item, align: "left", hasDynamicSize: true });
        button.setAttribute("aria-expanded", "true");
        popup.disposed.connect(() => {
          const had = panel.contains(document.activeElement);
          popup = panel = null;
          button.setAttribute("aria-expanded", "false");
          if (had) setTimeout(() => button.focus());
        });
        panel.focusFirst();
        poll();
      }

      button.addEventListener("click", () => (popup ? popup.dispose() : open()));
      document.addEventListener("visibilitychange", poll);
      bar.registerStatusItem("casabinder:workers", {
        item,
        align: "left",
        rank: 3,
        isActive: () => report !== null && report.state !== "off",
        activeStateChanged: changed,
      });
      app.restored.then(poll);
    }

    return { id: "casabinder:workers", autoStart: true, optional: [statusbar.IStatusBar], activate };
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB.casabinder = {
    init: (given) => {
      scope = given;
    },
    get: async (name) => {
      if (name !== "./extension") throw new Error(`casabinder has no module ${name}`);
      const plugin = await makePlugin();
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
