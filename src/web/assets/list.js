// A long list of which only what is in sight is in the document: as quick with a thousand rows as with ten. One stop of the
// tab key; arrows, Home, End and page keys move the choice, Enter opens it, a screen reader hears which of how many it is.

import { h, put } from "/assets/dom.js";

/** Rows drawn above and below what is in sight. */
const MORE = 4;

export class LongList {
  /** `row(item)` gives an element, `key(item)` its id; `empty()` what stands for no rows; `choose(key)` and `open(key)` tell. */
  constructor(root, { height, key, row, empty, choose, open, label }) {
    Object.assign(this, { root, height, key, row, empty, choose, open: open ?? (() => {}), items: [], chosen: null });
    this.space = h("div", { class: "long-space", role: "presentation" });
    root.setAttribute("role", "listbox");
    root.setAttribute("aria-label", label);
    root.tabIndex = 0;
    root.append(this.space);
    root.addEventListener("scroll", () => { this.due ??= requestAnimationFrame(() => this.draw()); }, { passive: true });
    root.addEventListener("keydown", (event) => this.pressed(event));
    root.addEventListener("click", (event) => {
      const id = event.target.closest("[role=option]")?.dataset.id;
      if (id) this.pick(id);
    });
    new ResizeObserver(() => { this.due ??= requestAnimationFrame(() => this.draw()); }).observe(root);
  }

  set(items, chosen) {
    this.items = items;
    this.chosen = chosen;
    this.draw();
  }

  pick(id) {
    this.chosen = id;
    this.choose(id);
  }

  pressed(event) {
    const at = this.items.findIndex((item) => this.key(item) === this.chosen);
    const page = Math.max(1, Math.floor(this.root.clientHeight / this.height) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, Home: 0, End: this.items.length - 1, PageDown: at + page, PageUp: at - page }[event.key];
    if (event.key === "Enter" && this.chosen) return void this.open(this.chosen);
    if (to === undefined || !this.items.length) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(this.items.length - 1, to));
    this.show(next);
    this.pick(this.key(this.items[next]));
  }

  /** Brings row `at` into sight. */
  show(at) {
    const top = at * this.height;
    if (top < this.root.scrollTop) this.root.scrollTop = top;
    else if (top + this.height > this.root.scrollTop + this.root.clientHeight) this.root.scrollTop = top + this.height - this.root.clientHeight;
  }

  draw() {
    this.due = null;
    const { root, space, items, height } = this;
    const first = Math.max(0, Math.floor(root.scrollTop / height) - MORE);
    const last = Math.min(items.length, Math.ceil((root.scrollTop + Math.max(root.clientHeight, 600)) / height) + MORE);
    space.style.height = items.length ? `${items.length * height}px` : "";
    const rows = items.slice(first, last).map((item, n) => {
      const id = this.key(item);
      const option = h("div", { role: "option", class: "long-row", id: `row-${id}`, "data-id": id, "data-key": id, "aria-selected": String(id === this.chosen),
        "aria-posinset": first + n + 1, "aria-setsize": items.length }, this.row(item));
      option.style.height = `${height}px`;
      return option;
    });
    put(space, items.length ? rows : this.empty());
    // Places are no attribute that an update would carry over.
    let at = first;
    let active = null;
    for (const option of space.children) {
      option.style.transform = items.length ? `translateY(${at++ * height}px)` : "";
      if (option.getAttribute("aria-selected") === "true") active = option.id;
    }
    if (active) root.setAttribute("aria-activedescendant", active); else root.removeAttribute("aria-activedescendant");
  }
}
