// The service's API: JSON out and in, and event streams that go on where they broke off.

export class Refused extends Error {
  constructor(message, status, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const cookie = (name) => document.cookie.split("; ").find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);

/** Ask the API; return its JSON. Throws `Refused` with the sentence for the person and the HTTP status (0: no answer). */
export async function ask(method, path, body, signal) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-Xsrftoken"] = cookie("_xsrf") ?? "";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The service does not answer. Check your connection; what runs goes on without this page.", 0);
  }
  if (response.status === 204) return null;
  const document = await response.json().catch(() => null);
  if (response.ok && document !== null) return document;
  const message = document?.error?.message ?? `The service answered with status ${response.status}.`;
  throw new Refused(message, response.status, Number(response.headers.get("Retry-After") ?? 0));
}

const SILENT = 60_000; // milliseconds

/**
 * Follow an event stream. `onEvent(data)` returns true when there is nothing more to come; `onLost(lost)` is told when
 * the connection breaks and when it is back; `onRefused(error)` when the stream can't be had. Returns a function that
 * stops it. The browser resumes with Last-Event-ID by itself. What is left here is a server that was away for longer, and
 * one that died behind a proxy which keeps the connection: nobody tells, so after a silence the stream is asked for anew.
 */
export function follow(path, { onEvent, onLost = () => {}, onRefused = () => {} }) {
  let source;
  let timer;
  let silence;
  let last = "";
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(again, SILENT);
  };
  const again = () => {
    source.close();
    open();
  };
  const open = () => {
    heard();
    source = new EventSource(last ? `${path}?after=${encodeURIComponent(last)}` : path);
    source.onopen = () => onLost(false);
    source.onmessage = (message) => {
      heard();
      last = message.lastEventId || last;
      if (onEvent(JSON.parse(message.data))) stop();
    };
    source.onerror = async () => {
      onLost(true);
      if (source.readyState !== EventSource.CLOSED) return;
      clearTimeout(silence);
      const status = await fetch(path, { method: "HEAD", credentials: "same-origin" }).then((answer) => answer.status, () => 0);
      if (status === 204) return; // all that there was has been sent
      if ([401, 403, 404, 410].includes(status)) {
        onRefused(new Refused("This is no longer there, or it is not yours to see.", status));
      } else {
        timer = setTimeout(open, 2000);
      }
    };
  };
  const stop = () => {
    clearTimeout(timer);
    clearTimeout(silence);
    source.close();
  };
  open();
  return stop;
}
