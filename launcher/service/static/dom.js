// Elements made of data. Text is always set as text, so that a branch named <b> is shown as just that.

/** Return an element. `attributes` may hold properties' names of HTML (`class`, `href`) and `on` for listeners. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const find = (selector) => document.querySelector(selector);

/** Set the text of an element only if it is another one, so that screen readers do not repeat it. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return `<div><dt>name</dt><dd>value</dd></div>`, or null without a value. */
export const fact = (name, value) => (value ? make("div", {}, make("dt", {}, name), make("dd", {}, value)) : null);

/** Return an address as a link if it is one of the web, as text if not (it comes from a repository). */
export function link(address, text = address) {
  return /^https?:\/\//i.test(address) ? make("a", { href: address, rel: "noopener noreferrer" }, text) : text;
}

/** Put the text of an input on the clipboard and say so on the button. */
export async function copy(input, button) {
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    input.focus();
    input.select();
    document.execCommand("copy"); // pages that came over plain HTTP have no navigator.clipboard
  }
  const text = button.dataset.text ?? (button.dataset.text = button.textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = text), 2000);
}
