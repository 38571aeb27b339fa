// What a link of ours names: provider, repository, ref, and what to open; and the links and badges made of it.

import { refName } from "./words.js";

/** The parameters that say what to open, the one that decides first (as in BinderHub). */
export const OPENING = ["labpath", "filepath", "urlpath"];

/** The providers' entries by prefix. */
export const PROVIDERS = new Map((window.pageConfig?.repoProviders ?? []).map((entry) => [entry.id, entry]));

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

/** Split a spec into the part that names the repository, as it stands in the URL, and the ref. */
export function split(entry, spec) {
  if (!entry?.ref.enabled) return { repository: spec, ref: "" };
  const segments = spec.split("/");
  const count = entry.repo.urlEncode ? 1 : 2;
  return { repository: segments.slice(0, count).join("/"), ref: decoded(segments.slice(count).join("/")) };
}

/** Return the four things to tell: provider, repository, ref (`""`: there are none), and what will be opened. */
export function described(entry, { provider, spec, opens }) {
  const { repository, ref } = split(entry, spec);
  return {
    provider: entry?.displayName ?? provider,
    repository: decoded(repository),
    ref: entry?.ref.enabled ? refName(ref) : "",
    opens: opens.get("labpath") || opens.get("filepath") || opens.get("urlpath") || "",
  };
}

/** Return spec with another ref. A ref's slashes stay, as BinderHub has them. */
export function withRef(entry, spec, ref) {
  const { repository } = split(entry, spec);
  return `${repository}/${encodeURIComponent(ref).replaceAll("%2F", "/")}`;
}

/** Read a link to a launch page, of this service or another BinderHub; null if it is none. */
export function readLink(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  const match = /\/v2\/([a-z]+)\/(.+)$/.exec(url.pathname);
  return match && { provider: match[1], spec: match[2].replace(/\/$/, ""), opens: url.searchParams };
}

/** Return the path and query of a launch page. */
export function launchPath({ provider, spec, parameters }) {
  const query = new URLSearchParams([...parameters].filter(([, value]) => value !== "")).toString();
  const path = spec.replace(/[()"'<>\s`\\]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
  return `/v2/${provider}/${path}${query && `?${query.replaceAll("%2F", "/").replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)}`}`;
}

/** Return what can be copied: the link, and a badge in three languages. */
export function shared(link) {
  const badge = `${location.origin}/badge_logo.svg`;
  return {
    link,
    markdown: `[![Launch](${badge})](${link})`,
    rest: `.. image:: ${badge}\n   :alt: Launch\n   :target: ${link}`,
    html: `<a href="${link.replaceAll("&", "&amp;")}"><img src="${badge}" alt="Launch"></a>`,
  };
}
