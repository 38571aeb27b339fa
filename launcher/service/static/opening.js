// From a launch to JupyterLab. The token goes into the body of a form, never into an address.

import { make } from "./dom.js";
import { follow } from "./api.js";

/** Open a ready server: a form POST of its token, or plain navigation when the hub's login is what counts. */
export function openServer({ url, token, path = "" }) {
  const base = new URL(new URL(url, location.href).pathname, location.origin); // servers are at this port, always
  const next = new URL(base.pathname + String(path).replace(/^\/+/, ""), base);
  if (!token) {
    location.assign(next);
    return;
  }
  const login = new URL("login", base);
  login.searchParams.set("next", next.pathname + next.search + next.hash);
  const form = make("form", { method: "post", action: login.href, hidden: true });
  for (const name of ["token", "password"]) form.append(make("input", { type: "hidden", name, value: token }));
  document.body.append(form);
  form.submit();
  form.remove();
}

/** Follow a launch: `onMessage(event)` for its progress, then one of `onReady(event)` and `onFailed(event)`. */
export function followLaunch(events, { onMessage, onReady, onFailed, onLost }) {
  return follow(events, {
    onLost,
    onRefused: (error) => onFailed({ message: error.message, status: error.status }),
    onEvent: (event) => {
      if (event.kind === "ready") onReady(event);
      else if (event.kind === "failed") onFailed(event);
      else onMessage(event);
      return event.kind !== "message";
    },
  });
}
