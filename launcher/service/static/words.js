// Numbers and names in plain words.

/** Return bytes as people read them, in decimal units as the command line has them. */
export function bytes(count) {
  if (!count) return "";
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
}

/** Return a number of seconds in words. */
export function seconds(count) {
  if (count < 10) return `${count.toFixed(1)} s`;
  if (count < 90) return `${Math.round(count)} s`;
  const minutes = Math.floor(count / 60);
  return minutes < 90 ? `${minutes} min ${Math.round(count % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Return when something was, as seen from now. */
export function ago(time) {
  const past = (Date.parse(time) - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (past <= -length) return relative.format(Math.ceil(past / length), unit);
  }
  return "just now";
}

/** Return `count thing(s)`. */
export const many = (count, thing, things = `${thing}s`) => `${count} ${count === 1 ? thing : things}`;

const RECORDS = new Set(["zenodo", "figshare", "dataverse", "hydroshare", "ckan"]);

/** Return the version of something built; a record of an archive has none but itself. */
export const versionOf = ({ provider, ref }) => (RECORDS.has(provider) ? "" : refName(ref));

/** Return what a ref is called: a full commit id is shortened, HEAD is the default branch. */
export function refName(ref) {
  if (!ref || ref === "HEAD") return "default branch";
  if (/^[0-9a-f]{40}$/.test(ref)) return `commit ${ref.slice(0, 12)}`;
  const pull = /^refs\/pull\/(\d+)\/head$/.exec(ref);
  if (pull) return `pull request ${pull[1]}`;
  if (ref.startsWith("refs/tags/")) return `tag ${ref.slice(10)}`;
  return ref.replace(/^refs\/heads\//, "");
}

/** Return the repository's name without scheme and host when the host is what everybody knows. */
export const repoName = (repo) =>
  repo.replace(/^https?:\/\/(www\.)?(github\.com|gitlab\.com)\//, "").replace(/^https?:\/\//, "").replace(/\.git$/, "").replace(/\/$/, "");

/** Return a sentence with a capital letter and a full stop. */
export function sentence(text) {
  const trimmed = text.trim();
  const first = trimmed.split(/\s/, 1)[0];
  const name = /[^a-z']/.test(first.slice(0, -1)); // a file, a path, a package: not to be written otherwise
  const begun = name ? trimmed : trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
