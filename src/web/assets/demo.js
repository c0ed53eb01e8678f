// The demonstration: what the customer keyed, as marks, beside what the agent's ear got at the same time, and the
// verdict at the end. Reads /demo/state (see src/web/demo.rs); shows nothing when the node has none.

import { h, icon, put, s } from "/assets/dom.js";

const PHASE = { starting: "Starting", talking: "Talking", keying: "Customer keys the card", checking: "Checking for leaks", done: "Finished" };
const FORM = { tone: "tone", event: "RTP event", info: "SIP INFO" };
const WINDOW_MS = 30_000;

export async function startDemo(root) {
  let rest = 250;
  let shown = "";
  for (;;) {
    try {
      const answer = await fetch("/demo/state", { cache: "no-store" });
      if (answer.status === 404) return;
      const text = await answer.text();
      if (answer.ok && text !== shown) {
        shown = text;
        const demo = JSON.parse(text);
        root.hidden = false;
        put(root, view(demo));
        rest = demo.phase === "done" ? 1500 : 250;
      }
    } catch { rest = 2000; }
    await new Promise((wake) => setTimeout(wake, rest));
  }
}

function view(demo) {
  const end = Math.max(demo.now_ms, WINDOW_MS);
  const span = demo.phase === "done" ? [0, Math.max(demo.now_ms, 1)] : [end - WINDOW_MS, end];
  return [
    h("div", { class: "demo-head" },
      h("h2", {}, "Demonstration"), h("span", { class: "chip calm" }, PHASE[demo.phase] ?? demo.phase),
      h("p", { class: "muted" }, demo.note)),
    h("div", { class: "demo-pair" },
      h("section", { class: "card" },
        h("div", { class: "head" }, h("h3", {}, "What the customer keyed"), h("span", { class: "big-count" }, String(demo.keyed.length))),
        marks(demo, span),
        h("p", { class: "legend" }, legend("k-tone", "tone"), legend("k-event", "RTP event"), legend("k-info", "SIP INFO"))),
      h("section", { class: "card" },
        h("div", { class: "head" }, h("h3", {}, "What the agent hears"), h("span", { class: "muted" }, "level, dBm0")),
        levels(demo, span),
        h("p", { class: "legend" }, legend("l-open", "passed on as it was"), legend("l-masked", "masked")))),
    demo.verdict ? verdict(demo.verdict) : null,
  ];
}

const WIDTH = 600;
const place = (at, [from, to]) => ((at - from) / (to - from)) * WIDTH;

function frame(label, ...shapes) {
  return s("svg", { class: "plot", viewBox: `0 0 ${WIDTH} 96`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...shapes);
}

function marks(demo, span) {
  const seen = demo.keyed.filter((key) => key.at_ms >= span[0]);
  return frame(`${demo.keyed.length} keys pressed`,
    s("line", { class: "axis", x1: 0, x2: WIDTH, y1: 84, y2: 84 }),
    seen.map((key) => {
      const x = place(key.at_ms, span);
      return s("rect", { class: `k-${key.form}`, x: x - 3, y: 20, width: Math.max(6, place(key.at_ms + key.ms, span) - x), height: 58, rx: 3 },
        s("title", {}, `a key, as ${FORM[key.form] ?? key.form}`));
    }));
}

function levels(demo, span) {
  const height = (dbm0) => Math.max(2, Math.min(80, ((dbm0 + 60) / 60) * 80));
  const step = place(demo.level_ms, [0, span[1] - span[0]]);
  const from = Math.max(0, Math.floor(span[0] / demo.level_ms));
  return frame("Level the agent hears over time",
    s("line", { class: "axis", x1: 0, x2: WIDTH, y1: 84, y2: 84 }),
    demo.heard.slice(from).map((slot, at) => {
      const tall = height(slot.dbm0);
      return s("rect", {
        class: slot.masked ? "l-masked" : "l-open", x: place((from + at) * demo.level_ms, span), y: 84 - tall,
        width: Math.max(1, step * 0.8), height: tall,
      });
    }));
}

function legend(kind, text) {
  return h("span", { class: "legend-item" }, s("svg", { width: 12, height: 12, "aria-hidden": "true" }, s("rect", { class: kind, width: 12, height: 12, rx: 3 })), text);
}

function verdict(verdict) {
  return h("section", { class: `card verdict ${verdict.passed ? "good" : "bad"}`, role: "status" },
    h("div", { class: "verdict-head" }, h("span", { class: "verdict-icon" }, icon(verdict.passed ? "shield" : "no", 30)),
      h("div", {}, h("h3", {}, verdict.passed ? "Nothing leaked" : "A digit leaked"), h("p", { class: "muted" }, verdict.summary))),
    h("ul", { class: "checks" }, verdict.checks.map((check) => h("li", { class: check.passed ? "pass" : "fail" },
      icon(check.passed ? "ok" : "no", 18), h("strong", {}, check.name), h("span", { class: "muted" }, check.found)))));
}
