// The view of the node's health: the node itself, its recorders, its trunks, and who gets its webhooks.

import { call as ask } from "/assets/api.js";
import { h, icon, put } from "/assets/dom.js";
import { span } from "/assets/alarms.js";

const EVERY_MS = 2000;
const NODE = { running: ["good", "Takes calls"], draining: ["warn", "Draining: takes no new calls"], stopping: ["bad", "Stopping"] };
const RECORDER = { up: ["good", "Up"], ailing: ["warn", "Ailing"], degraded: ["warn", "Not all of it works"], down: ["bad", "Down"] };
const KIND = { sealed: "Sealed files", siprec: "SIPREC recorder" };
const TARGET = { up: "good", last: "warn", resting: "warn", down: "bad" };
const WORDS = { up: "up", last: "tried last", resting: "resting", down: "down" };

export function healthPage(root, model, state, act) {
  const known = { recorders: null, trunks: null, hooks: null, fault: "" };
  let asking = false;

  async function look() {
    if (asking || state.page !== "health" || document.hidden) return;
    asking = true;
    try {
      const [node, recorders, trunks, hooks] = await Promise.all([
        ask("GET", "/v1/node"), ask("GET", "/v1/recorders"), ask("GET", "/v1/trunks"),
        act.may("see or replay webhooks") ? ask("GET", "/v1/webhooks") : { endpoints: [] }]);
      state.node = node;
      Object.assign(known, { recorders: recorders.recorders, trunks: trunks.trunks, hooks: hooks.endpoints, fault: "" });
    } catch (error) {
      known.fault = error.message;
    }
    asking = false;
    act.draw();
  }
  setInterval(look, EVERY_MS);

  const replay = (endpoint) => act.run(`replay-${endpoint}`, "Dead letters are tried again", async () => {
    await ask("POST", `/v1/webhooks/${encodeURIComponent(endpoint)}/replay`);
    await look();
  });

  function hook(one) {
    return h("tr", { "data-key": one.endpoint }, h("td", {}, one.endpoint), h("td", { class: "number" }, String(one.waiting)),
      h("td", { class: "number" }, one.dead ? h("span", { class: "chip bad" }, String(one.dead)) : "0"),
      h("td", {}, one.dead ? h("button", { type: "button", class: "small", "data-key": `replay-${one.endpoint}`, "aria-disabled": act.busy(`replay-${one.endpoint}`),
        onclick: () => replay(one.endpoint) }, "Try again") : ""));
  }

  return {
    opened: look,
    event(event) { if (event.type === "trunk-target" || event.type === "registration" || event.type.startsWith("alarm-")) look(); },
    draw() {
      const { node } = state;
      put(root, h("div", { class: "page health" },
        known.fault ? h("p", { class: "panel-error", role: "alert" }, `Not up to date: ${known.fault}`) : null,
        h("section", { class: "card", "aria-labelledby": "node-title" },
          h("div", { class: "head" }, h("h2", { id: "node-title" }, "Node"), icon("node")),
          node ? [h("div", { class: "row" }, h("strong", { class: "big" }, node.name), chip(NODE[node.state]), h("span", { class: "muted" }, `version ${node.version}, up ${span(node.up_ms)}`)),
            facts([["Calls", `${node.calls} of ${node.max_calls}`], ["Masked now", node.masked], ["People and programs watching", node.event_streams],
              ["Messages dropped: too many", node.shed]]), meter(node.calls, node.max_calls, "of the calls it may have")] : waiting()),
        h("section", { class: "card", "aria-labelledby": "rec-title" },
          h("div", { class: "head" }, h("h2", { id: "rec-title" }, "Recorders"), icon("disk")),
          known.recorders ? (known.recorders.length ? h("ul", { class: "recorders" }, known.recorders.map(recorder))
            : h("p", { class: "muted" }, "No trunk is recorded.")) : waiting()),
        h("section", { class: "card", "aria-labelledby": "trunk-title" },
          h("div", { class: "head" }, h("h2", { id: "trunk-title" }, "Trunks"), icon("trunk")),
          known.trunks ? h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-labelledby": "trunk-title" }, h("table", {},
            h("thead", {}, h("tr", {}, ["Trunk", "State", "Calls", "Targets", "Registration"].map((text) => h("th", { scope: "col" }, text)))),
            h("tbody", {}, known.trunks.map(trunk)))) : waiting()),
        act.may("see or replay webhooks") ? h("section", { class: "card", "aria-labelledby": "hook-title" },
          h("div", { class: "head" }, h("h2", { id: "hook-title" }, "Webhooks"), icon("letter")),
          known.hooks ? (known.hooks.length ? h("table", {}, h("thead", {}, h("tr", {}, ["Receiver", "Waiting", "Dead", ""].map((text) => h("th", { scope: "col" }, text)))),
            h("tbody", {}, known.hooks.map(hook))) : h("p", { class: "muted" }, "Nobody is told by webhook.")) : waiting()) : null));
    },
  };
}

const waiting = () => h("p", { class: "muted" }, "Asking…");
const chip = ([kind, text]) => h("span", { class: `chip ${kind}` }, text);
const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));

/** A bar that says in words what it shows. */
function meter(value, most, what) {
  const part = most ? Math.min(1, value / most) : 0;
  const kind = part > .9 ? "bad" : part > .7 ? "warn" : "good";
  return h("div", { class: "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(part * 100), "aria-label": `${Math.round(part * 100)} % ${what}` },
    h("progress", { class: kind, max: 1000, value: Math.round(part * 1000), "aria-hidden": "true" }));
}

function recorder(one) {
  const { sealed } = one;
  const more = one.siprec ?? {};
  return h("li", { class: "recorder", "data-key": one.name, "data-state": one.state },
    h("div", { class: "row" }, h("strong", {}, one.name), h("span", { class: "muted" }, KIND[one.kind] ?? one.kind), chip(RECORDER[one.state] ?? ["off", one.state])),
    facts([["Open now", one.open], ["Failed since start", one.failed], more.policy && ["Calls need it", more.policy === "required" ? "always" : "if it can be had"],
      more.paused ? ["Paused", more.paused] : null, more.away ? ["Calls that go without it", more.away] : null, more.spilling ? ["Spilled to sealed files", more.spilling] : null,
      sealed && ["Waiting to be written", `${sealed.waiting_blocks} of ${sealed.most_waiting_blocks} blocks`],
      sealed && ["Sound lost", seconds(sealed.lost_blocks)], sealed && ["Writers", sealed.writers],
      sealed && ["Written", `${bytes(sealed.bytes)} in ${sealed.chunks} ${sealed.chunks === 1 ? "chunk" : "chunks"}`], sealed && ["Slowest chunk", `${sealed.slowest_ms} ms`],
      sealed?.disk_bytes && ["Disk free", `${bytes(sealed.disk_free)} of ${bytes(sealed.disk_bytes)}`],
      more.dialect && ["Dialect", more.dialect], more.transport && ["Transport", more.transport]]),
    more.targets?.length ? targets(more.targets) : null,
    more.last_error ? h("p", { class: "bad-text" }, `Last fault${more.last_error_ms ? ` ${span(more.last_error_ms)} ago` : ""}: ${more.last_error}`) : null,
    sealed?.disk_bytes ? meter(sealed.disk_bytes - sealed.disk_free, sealed.disk_bytes, "of the disk is used") : null);
}

function trunk(one) {
  const r = one.registration;
  return h("tr", { "data-key": one.name, "data-trunk": one.name, "data-state": one.state },
    h("td", {}, h("strong", {}, one.name), h("span", { class: "muted" }, ` ${one.side}`)),
    h("td", {}, chip(one.state === "up" ? ["good", "Up"] : ["bad", "Down"])),
    h("td", { class: "number" }, `${one.calls} of ${one.max_calls}`),
    h("td", {}, one.targets.length ? targets(one.targets) : h("span", { class: "muted" }, "none")),
    h("td", {}, r ? chip(r.registered ? ["good", "Registered"] : ["bad", `Not registered, ${r.failures} failed`]) : h("span", { class: "muted" }, "not wanted")));
}

const targets = (all) => h("ul", { class: "targets" }, all.map((target) => h("li", {}, h("code", {}, target.address), " ",
  chip([TARGET[target.state] ?? "off", WORDS[target.state] ?? target.state]), target.probes_lost ? h("span", { class: "muted" }, ` ${target.probes_lost} probes unanswered`) : null)));

const seconds = (blocks) => (blocks ? `${(blocks / 10).toFixed(1)} s` : "none");

/** A number of bytes in words. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) { count /= 1000; at += 1; }
  return `${count >= 100 || at === 0 ? Math.round(count) : count.toFixed(1)} ${units[at]}`;
}
