// The live call view: signs in, keeps the calls as the node tells them, and draws them.

import { Problem, call as ask, follow, restoreKey, setKey } from "/assets/api.js";
import { h, put, icon } from "/assets/dom.js";
import { callCard, callView, tick, words } from "/assets/view.js";
import { startDemo } from "/assets/demo.js";

const $ = (id) => document.getElementById(id);
const ENDED_STAYS_MS = 120_000;
const LOG_KEPT = 400;

/** Everything the page knows. `calls` by id: the node's view, and when it was taken. */
const state = { me: null, calls: new Map(), selected: null, log: [], busy: new Set(), form: { length: "16" } };
let stream = null;

// ---- signing in ----

async function enter() {
  try {
    state.me = await ask("GET", "/v1/me");
  } catch (error) {
    setKey(null);
    return gate(error instanceof Problem && error.status === 401 ? "This node does not know that key." : String(error.message));
  }
  $("gate").hidden = true;
  $("desk").hidden = false;
  $("leave").hidden = false;
  $("who").textContent = `${state.me.name} · ${state.me.role}`;
  $("node").textContent = state.me.node;
  document.title = `Tonewall – ${state.me.node}`;
  stream = new AbortController();
  follow({
    open: () => { link("on", "Live"); settled = false; refresh().then(() => { settled = true; }); },
    event: onEvent,
    missed: (count) => { if (count && state.log.length) log({ type: "missed", at_ms: Date.now() }); refreshSoon(); },
    closed: () => link("wait", "Reconnecting…"),
    refused: () => leave("The key is no longer valid."),
  }, stream.signal);
}

function gate(message = "") {
  $("desk").hidden = true;
  $("leave").hidden = true;
  $("gate").hidden = false;
  $("who").textContent = "";
  $("key-error").textContent = message;
  link("off", "Not connected");
  $("key").focus();
}

function leave(message = "") {
  stream?.abort();
  setKey(null);
  state.calls.clear();
  state.log = [];
  state.selected = null;
  gate(message);
}

function link(kind, text) {
  $("link").dataset.state = kind;
  $("link").lastElementChild.textContent = text;
}

// ---- what the node tells ----

/** False while the stream still tells what happened before: that goes into the log, and the calls come by themselves. */
let settled = false;
let pending = null;
let asking = false;

/** Asks for the calls again, soon, and once for a burst of events. */
function refreshSoon() {
  pending ??= setTimeout(() => { pending = null; refresh(); }, 90);
}

async function refresh() {
  if (asking) return refreshSoon();
  asking = true;
  try {
    const { calls } = await ask("GET", "/v1/calls?limit=500");
    const now = performance.now();
    const there = new Set();
    for (const view of calls) {
      there.add(view.id);
      const old = state.calls.get(view.id);
      state.calls.set(view.id, { view, at: now, spans: spansOf(view, old, now), ended: null });
    }
    for (const [id, held] of state.calls) {
      if (there.has(id)) continue;
      held.ended ??= { at: now, cause: null };
      if (now - held.ended.at > ENDED_STAYS_MS && state.selected !== id) state.calls.delete(id);
    }
    if (!calls.length) recall(now);
    if (!state.calls.has(state.selected)) state.selected = state.calls.keys().next().value ?? null;
  } catch (error) {
    if (error.status === 401) return leave("The key is no longer valid.");
  } finally {
    asking = false;
  }
  draw();
  drawLog();
}

/** When no call is there: the last one the log tells of, so that a page opened late has something to show. */
function recall(now) {
  const last = state.log.find((event) => event.type === "call-ended");
  if (!last || state.calls.has(last.call) || Date.now() - last.at_ms > 10 * 60_000) return;
  const told = state.log.filter((event) => event.call === last.call).reverse();
  const started = told.find((event) => event.type === "call-started");
  if (!started) return;
  const view = {
    id: last.call, state: "ending", caller: started.caller, called: started.called, agent: started.called,
    from_trunk: started.from_trunk, to_trunk: started.to_trunk, reference: null, age_ms: last.talk_ms, talk_ms: last.talk_ms,
    guard: "signal", masked: false, paused: false, keys_masked: 0, holds: [], collection: null, recording: null,
  };
  for (const event of told) absorb(view, event);
  state.calls.set(last.call, { view, at: now, spans: new Map(), ended: { at: now, cause: last.cause } });
}

/** What an event changes in a call's view. */
function absorb(view, event) {
  if (event.type === "key-masked") view.keys_masked = event.count;
  if (event.type === "collection-progress") {
    view.collection = { ...(view.collection ?? { min: 0, max: 0 }), id: event.collection, state: "open", received: event.received, mask: event.mask, result: null, luhn: null };
  }
  if (event.type === "collection-ended") {
    view.collection = { ...(view.collection ?? { min: 0, max: 0, mask: "" }), id: event.collection, state: "ended", received: event.count, result: event.result, luhn: event.luhn };
  }
  if (event.type === "mask") view.masked = event.on;
  if (event.type === "recording") {
    view.recording = { id: event.recording, state: event.state };
    view.paused = event.state === "paused";
  }
}

/** The whole span of each hold, so that its bar shows what is left of it: the longest lease seen. */
function spansOf(view, old, now) {
  const spans = new Map();
  for (const hold of view.holds) {
    const before = old?.spans.get(hold.id);
    const until = now + hold.ttl_ms;
    const renewed = before && until > before.until + 1500;
    spans.set(hold.id, { until, whole: before && !renewed ? before.whole : hold.ttl_ms });
  }
  return spans;
}

function onEvent(event) {
  log(event);
  const held = state.calls.get(event.call);
  if (held && settled) {
    // What must not wait for the next answer: a mark per key, at once.
    absorb(held.view, event);
    if (event.type === "collection-progress") say(`${event.received} keys`);
    if (event.type === "collection-ended" || event.type === "mask") say(words(event));
    if (event.type === "call-ended") held.ended = { at: performance.now(), cause: event.cause };
    if (state.selected === event.call) draw();
  }
  if (event.type === "call-started" && (!state.selected || state.calls.get(state.selected)?.ended)) {
    state.selected = event.call;
  }
  refreshSoon();
}

let logDue = null;
function log(event) {
  state.log.unshift(event);
  state.log.length = Math.min(state.log.length, LOG_KEPT);
  logDue ??= requestAnimationFrame(() => { logDue = null; drawLog(); });
}

// ---- what the user wants ----

const act = {
  may: (what) => state.me?.may.includes(what) ?? false,
  /** For aria-disabled: a button that is really disabled would lose the focus. */
  busy: (key) => (state.busy.has(key) ? "true" : null),
  select(id) {
    state.selected = id;
    draw();
    drawLog();
  },
  async run(key, done, work) {
    if (state.busy.has(key)) return;
    state.busy.add(key);
    draw();
    try {
      await work();
      if (done) toast(done);
    } catch (error) {
      toast(error.message, true);
    } finally {
      state.busy.delete(key);
      refresh();
    }
  },
  hold: (id, kind) => act.run(`hold-${kind}`, null, () =>
    ask("POST", `/v1/calls/${id}/holds`, { kind, reason: "from the live view" })),
  renew: (id, hold) => act.run(`renew-${hold}`, "Hold renewed", () => ask("PATCH", `/v1/calls/${id}/holds/${hold}`, {})),
  release: (id, hold) => act.run(`release-${hold}`, null, () => ask("DELETE", `/v1/calls/${id}/holds/${hold}`)),
  collect: (id, length) => act.run("collect", null, () =>
    ask("POST", `/v1/calls/${id}/collections`, { length: Number(length) })),
  cancel: (id, collection) => act.run("cancel", "Collection cancelled; its digits are wiped", () =>
    ask("DELETE", `/v1/calls/${id}/collections/${collection}`)),
  hangUp(id) {
    if (confirm("End this call for both sides?")) act.run("hang-up", "The call is being ended", () => ask("DELETE", `/v1/calls/${id}`));
  },
  form: state.form,
};

// ---- drawing ----

function draw() {
  const calls = [...state.calls.values()];
  $("calls-count").textContent = calls.filter((held) => !held.ended).length;
  put($("calls"), calls.length
    ? calls.map((held) => callCard(held, held.view.id === state.selected, act))
    : h("li", { class: "empty" }, icon("phone", 22), h("p", {}, "No calls now."), h("p", { class: "muted" }, "They appear here as they come in.")));
  const held = state.calls.get(state.selected);
  put($("main"), held ? callView(held, act) : h("div", { class: "card blank" },
    icon("shield", 40), h("h1", {}, "Waiting for a call"), h("p", { class: "muted" }, "Calls, holds and masked key presses show here live.")));
  tick(state, performance.now());
}

function drawLog() {
  const only = $("log-call").checked && state.selected;
  const shown = state.log.filter((event) => !only || event.call === state.selected || !event.call).filter(headOfRun).slice(0, 150);
  put($("log"), shown.length ? shown.map((event) => h("li", { "data-type": event.type },
    h("time", { datetime: new Date(event.at_ms).toISOString() }, new Date(event.at_ms).toLocaleTimeString([], { hour12: false })),
    h("span", {}, words(event)))) : h("li", { class: "empty" }, h("p", { class: "muted" }, "Nothing yet.")));
}

/** Of a run of keys only the newest line is shown: each key makes two events, and the newest tells all. */
function headOfRun(event, at, all) {
  const key = (other) => other && (other.type === "key-masked" || other.type === "collection-progress" || (other.type === "payment-updated" && other.partial_result)) && other.call === event.call;
  return !key(event) || !key(all[at - 1]);
}

let spoken = null;
function say(text) {
  // Bursts of keys are told once they pause.
  clearTimeout(spoken);
  spoken = setTimeout(() => { $("say").textContent = text; }, 400);
}

function toast(text, bad = false) {
  const note = h("p", { class: bad ? "toast bad" : "toast" }, icon(bad ? "no" : "ok"), h("span", {}, text));
  $("toasts").append(note);
  setTimeout(() => note.remove(), bad ? 7000 : 3500);
}

// ---- start ----

$("login").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  setKey($("key").value.trim());
  $("key").value = "";
  enter();
});
$("leave").addEventListener("click", () => leave());
$("log-call").addEventListener("change", drawLog);
$("theme").addEventListener("click", () => {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("tonewall.theme", document.documentElement.dataset.theme); } catch { /* Stays for this page. */ }
});
try {
  const theme = localStorage.getItem("tonewall.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* The system's choice holds. */ }
setInterval(() => tick(state, performance.now()), 200);
if (document.documentElement.dataset.demo === "true") startDemo($("demo"));
if (restoreKey()) enter(); else gate();
