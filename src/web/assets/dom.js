// Small help with the document: elements from data, and updates that keep the focus where it was.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("button", { class: "x", onclick: f, "data-key": "k" }, "text", child, …). Text is never markup. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces the children of `root`; what had the focus, by its data-key, has it again. */
export function put(root, ...children) {
  const active = document.activeElement;
  const focused = root.contains(active) ? active.dataset.key : null;
  const typed = focused && "value" in active ? [active.value, active.selectionStart] : null;
  root.replaceChildren(...children.flat(3).filter(Boolean));
  if (!focused) return;
  const again = root.querySelector(`[data-key="${CSS.escape(focused)}"]`);
  again?.focus({ preventScroll: true });
  if (again && typed && again.tagName === "INPUT") again.value = typed[0];
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
