// Small help with the document: elements from data, and updates that change only what is different.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("button", { class: "x", onclick: f, "data-key": "k" }, "text", child, …). Text is never markup. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Who hears an element's events: kept beside it, so that an update only changes who is told. */
const told = new WeakMap();

function listen(element, name, tell) {
  const all = told.get(element) ?? new Map();
  told.set(element, all);
  if (!all.has(name)) element.addEventListener(name, (event) => told.get(element).get(name)?.(event));
  all.set(name, tell);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) listen(element, name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Makes the children of `root` look like these. What is there and stays is changed in place: a button that is being pressed
 * is still the same one when the finger goes up, the focus stays, and nothing that did not change moves.
 */
export function put(root, ...children) {
  const active = document.activeElement;
  const focused = root.contains(active) ? active.dataset.key : null;
  const wanted = document.createDocumentFragment();
  wanted.append(...children.flat(3).filter(Boolean));
  match(root, wanted);
  if (focused && !active.isConnected) root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

const keyOf = (node) => node.dataset?.key ?? null;

function match(root, wanted) {
  const keyed = new Map();
  for (const node of root.children) if (keyOf(node)) keyed.set(keyOf(node), node);
  let at = root.firstChild;
  for (const node of [...wanted.childNodes]) {
    const key = keyOf(node);
    const same = key ? keyed.get(key) : at && !keyOf(at) ? at : null;
    if (!same || same.nodeName !== node.nodeName) {
      root.insertBefore(node, at);
      continue;
    }
    if (key) keyed.delete(key);
    if (same === at) at = at.nextSibling;
    else root.insertBefore(same, at);
    become(same, node);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function become(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  // Styles are places and clocks that others keep; as an attribute the page's policy forbids them anyway.
  for (const { name } of [...old.attributes]) if (name !== "style" && !wanted.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  const all = told.get(wanted) ?? new Map();
  for (const name of told.get(old)?.keys() ?? []) if (!all.has(name)) told.get(old).set(name, null);
  for (const [name, tell] of all) listen(old, name, tell);
  // What is kept holds elements of its own: sound that plays would stop if they were touched.
  if (old.dataset.keep) return;
  // Clocks are kept by whoever keeps them.
  const clock = (node) => node.dataset.age ?? node.dataset.left ?? node.dataset.since;
  if (clock(old) === undefined || !old.textContent) match(old, wanted);
}

const PATHS = {
  shield: "M12 3 4.5 6v5.5c0 4.6 3.1 8 7.5 9.5 4.4-1.5 7.5-4.9 7.5-9.5V6Z M9 12l2.2 2.2L15.3 10",
  open: "M12 3 4.5 6v5.5c0 4.6 3.1 8 7.5 9.5 4.4-1.5 7.5-4.9 7.5-9.5V6Z",
  rec: "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10Z",
  pause: "M9 6v12M15 6v12",
  keys: "M5 5h.01M12 5h.01M19 5h.01M5 12h.01M12 12h.01M19 12h.01M5 19h.01M12 19h.01M19 19h.01",
  phone: "M6.5 3.5 9 4l1 4-2 1.7a12 12 0 0 0 6 6l1.7-2 4 1 .5 2.5c0 1.5-1.2 3-3 3C10.5 20.2 3.5 13 3.5 6.5c0-1.8 1.5-3 3-3Z",
  card: "M3.5 6.5h17v11h-17ZM3.5 10h17M7 14.5h4",
  ok: "M5 12.5 10 17.5 19.5 7",
  no: "M6 6l12 12M18 6 6 18",
  bell: "M12 3.5a5.5 5.5 0 0 0-5.5 5.5c0 5-2 6.5-2 6.5h15s-2-1.5-2-6.5A5.5 5.5 0 0 0 12 3.5ZM10 19a2.2 2.2 0 0 0 4 0",
  disk: "M4 6.5C4 5 7.6 4 12 4s8 1 8 2.5v11c0 1.5-3.6 2.5-8 2.5s-8-1-8-2.5ZM4 6.5C4 8 7.6 9 12 9s8-1 8-2.5M4 12c0 1.5 3.6 2.5 8 2.5s8-1 8-2.5",
  node: "M4 5h16v6H4ZM4 13h16v6H4ZM7.5 8h.01M7.5 16h.01",
  trunk: "M4 8h13M13.5 4.5 17 8l-3.5 3.5M20 16H7M10.5 12.5 7 16l3.5 3.5",
  lock: "M6.5 11V8a5.5 5.5 0 0 1 11 0v3M5 11h14v9.5H5Z",
  play: "M8 5.5v13l10.5-6.5Z",
  letter: "M3.5 6h17v12h-17ZM4 6.5l8 6.5 8-6.5",
};

/** A line icon. */
export function icon(name, size = 18) {
  return s("svg", { viewBox: "0 0 24 24", width: size, height: size, class: `i i-${name}`, "aria-hidden": "true" },
    s("path", { d: PATHS[name] }));
}

/** 1:02 or 1:02:03 of milliseconds. */
export function clock(ms) {
  const t = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  const [hours, minutes, seconds] = [Math.floor(t / 3600), Math.floor(t / 60) % 60, t % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}
