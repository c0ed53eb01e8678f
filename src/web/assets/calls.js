// The view of live calls: a list that can be searched, the chosen call, and the events.

import { asked, call as ask } from "/assets/api.js";
import { h, icon, put } from "/assets/dom.js";
import { LongList } from "/assets/list.js";
import { callRow, callView, words } from "/assets/view.js";

const SHOWN = 150;
const ROW = 70;
const LOG_MS = 250;

const KINDS = {
  all: ["All calls", () => true],
  masked: ["Masked now", ({ view, ended }) => !ended && view.masked],
  paused: ["Recording paused", ({ view, ended }) => !ended && view.paused],
  paying: ["Payment or collection", ({ view, ended }) => !ended && (view.payment || view.collection?.state === "open")],
  trouble: ["In trouble", ({ view }) => view.recording?.state === "failed" || view.codecs?.maskable === false],
  ended: ["Just ended", ({ ended }) => !!ended],
};

export function callsPage(root, model, state, shared) {
  const $ = (id) => root.querySelector(`#${id}`);
  const wish = { text: "", kind: "all", form: { length: "16" } };
  const { run } = shared;
  const act = {
    ...shared,
    hold: (id, kind) => run(`hold-${kind}`, null, () => ask("POST", `/v1/calls/${id}/holds`, { kind, reason: "from the live view" })),
    renew: (id, hold) => run(`renew-${hold}`, "Hold renewed", () => ask("PATCH", `/v1/calls/${id}/holds/${hold}`, {})),
    release: (id, hold) => run(`release-${hold}`, null, () => ask("DELETE", `/v1/calls/${id}/holds/${hold}`)),
    collect: (id, length) => run("collect", null, () => ask("POST", `/v1/calls/${id}/collections`, { length: Number(length) })),
    cancel: (id, collection) => run("cancel", "Collection cancelled; its digits are wiped", () =>
      ask("DELETE", `/v1/calls/${id}/collections/${collection}`)),
    hangUp(id) {
      if (confirm("End this call for both sides?")) run("hang-up", "The call is being ended", () => ask("DELETE", `/v1/calls/${id}`));
    },
    form: wish.form,
  };

  const list = new LongList($("calls"), {
    height: ROW, label: "Calls", key: (held) => held.view.id, row: callRow,
    choose: act.select, open: () => $("main").focus(),
    empty: () => h("div", { class: "empty" }, icon("phone", 22), ...(model.calls.size
      ? [h("p", {}, "No call is like that."), h("button", { type: "button", class: "small", "data-key": "all", onclick: clear }, "Show all calls")]
      : [h("p", {}, "No calls now."), h("p", { class: "muted" }, "They appear here as they come in.")])),
  });

  function clear() {
    [wish.text, wish.kind] = ["", "all"];
    [$("find").value, $("kind").value] = ["", "all"];
    act.draw();
  }

  function wanted() {
    const text = wish.text.toLowerCase();
    const [, fits] = KINDS[wish.kind];
    return [...model.calls.values()].filter((held) => fits(held) && (!text || textOf(held.view).includes(text)));
  }

  const textOf = (view) => [view.caller, view.called, view.agent, view.reference, view.from_trunk, view.to_trunk, view.id,
    view.sip_call_ids?.customer, view.sip_call_ids?.agent].filter(Boolean).join("\n").toLowerCase();

  put($("kind"), Object.entries(KINDS).map(([value, [text]]) => h("option", { value }, text)));
  $("find").addEventListener("input", () => { wish.text = $("find").value.trim(); act.draw(); });
  $("find").addEventListener("keydown", (event) => {
    if (event.key === "Escape") clear();
    if (event.key === "ArrowDown") { event.preventDefault(); $("calls").focus(); }
  });
  $("kind").addEventListener("change", () => { wish.kind = $("kind").value; act.draw(); });
  $("log-call").addEventListener("change", () => drawLog());

  let told = 0;
  let later = null;
  function drawLog() {
    clearTimeout(later);
    [later, told] = [null, performance.now()];
    const only = $("log-call").checked && state.selected;
    const shown = [];
    let run = null;
    for (const event of model.log) {
      if (only && event.call && event.call !== state.selected) continue;
      // Of a run of keys only the newest line is shown: each key makes two events, and the newest tells all.
      const key = isKey(event) ? event.call : null;
      if (key && key === run) continue;
      run = key;
      if (shown.push(event) === SHOWN) break;
    }
    put($("log"), shown.length ? shown.map((event) => h("li", { "data-type": event.type },
      h("time", { datetime: new Date(event.at_ms).toISOString() }, new Date(event.at_ms).toLocaleTimeString([], { hour12: false })),
      h("span", {}, words(event)))) : h("li", { class: "empty" }, h("p", { class: "muted" }, "Nothing yet.")));
  }

  return {
    draw() {
      const calls = wanted();
      list.set(calls, state.selected);
      const all = model.live();
      const live = calls.filter((held) => !held.ended).length;
      $("calls-count").textContent = live === all ? all : `${live} of ${all}`;
      const held = model.calls.get(state.selected);
      put($("main"), held ? callView(held, act) : h("div", { class: "card blank" },
        icon("shield", 40), h("h1", {}, "Waiting for a call"), h("p", { class: "muted" }, "Calls, holds and masked key presses show here live.")));
      if (performance.now() - told > LOG_MS) drawLog();
      else later ??= setTimeout(drawLog, LOG_MS);
    },
    find(event) {
      event.preventDefault();
      $("find").focus();
      $("find").select();
    },
  };
}

const isKey = (event) => event.type === "key-masked" || event.type === "collection-progress" || (event.type === "payment-updated" && event.partial_result);
