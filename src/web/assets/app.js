// The supervisor's page: signs in, follows the node, and shows what it tells on a few views. Drawing is coalesced: however
// much happens, a view is drawn at most ten times a second, and not at all while nobody looks.

import { Problem, asked, call as ask, follow, restoreKey, setKey } from "/assets/api.js";
import { h, icon, put } from "/assets/dom.js";
import { MOST_CALLS, Model } from "/assets/model.js";
import { callsPage } from "/assets/calls.js";
import { paymentsPage } from "/assets/payments.js";
import { healthPage } from "/assets/health.js";
import { alarmsPage, subject } from "/assets/alarms.js";
import { recordingsPage } from "/assets/recordings.js";
import { tick, words } from "/assets/view.js";
import { startDemo } from "/assets/demo.js";

const $ = (id) => document.getElementById(id);
const DRAW_MS = 100;
const REPAIR_MS = 30_000;
/** More calls than this to be asked for again: all are. */
const MANY = 25;

const model = new Model();
/** Who looks, what they do, what they look at. */
const state = { me: null, selected: null, busy: new Set(), page: "calls", node: null };
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
  $("tabs").hidden = false;
  $("who").textContent = `${state.me.name} · ${state.me.role}`;
  $("node").textContent = state.me.node;
  for (const tab of $("tabs").children) tab.hidden = !mayOpen(tab.dataset.page);
  open();
  stream = new AbortController();
  follow({
    open: () => { link("on", "Live"); model.restart(); refresh(); health(); },
    event: onEvent,
    missed: (count) => { if (count && model.log.length) model.log.unshift({ type: "missed", at_ms: Date.now() }); refresh(); health(); },
    closed: () => link("wait", "Reconnecting…"),
    refused: () => leave("The key is no longer valid."),
  }, stream.signal);
}

function gate(message = "") {
  for (const part of ["desk", "leave", "tabs", "strip"]) $(part).hidden = true;
  $("gate").hidden = false;
  $("who").textContent = "";
  $("key-error").textContent = message;
  link("off", "Not connected");
  $("key").focus();
}

function leave(message = "") {
  stream?.abort();
  setKey(null);
  model.clear();
  Object.assign(state, { me: null, selected: null, node: null });
  gate(message);
}

function link(kind, text) {
  $("link").dataset.state = kind;
  $("link").lastElementChild.textContent = text;
}

// ---- views ----

const PAGES = { calls: callsPage, payments: paymentsPage, recordings: recordingsPage, health: healthPage, alarms: alarmsPage };
const NEEDS = { recordings: "see recordings", health: "see the node's health", alarms: "see the node's health" };
const mayOpen = (page) => page in PAGES && (!NEEDS[page] || act.may(NEEDS[page]));
const pages = {};

/** Shows the view that the address names. */
function open() {
  if (!state.me) return;
  const wanted = location.hash.replace(/^#\//, "").split("/")[0];
  state.page = mayOpen(wanted) ? wanted : "calls";
  for (const tab of $("tabs").children) {
    if (tab.dataset.page === state.page) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
  }
  for (const page of Object.keys(PAGES)) $(`page-${page}`).hidden = page !== state.page;
  pages[state.page] ??= PAGES[state.page]($(`page-${state.page}`), model, state, act);
  pages[state.page].opened?.();
  drawNow();
}

// ---- what the node tells ----

let asking = false;
let again = null;

async function refresh() {
  if (asking) return void (again ??= setTimeout(() => { again = null; refresh(); }, DRAW_MS));
  asking = true;
  try {
    const { body, seq } = await asked("GET", `/v1/calls?limit=${MOST_CALLS}`);
    model.takeCalls(body.calls, seq, performance.now());
    model.sweep(performance.now(), state.selected);
    if (!model.calls.has(state.selected)) state.selected = model.calls.keys().next().value ?? null;
  } catch (error) {
    if (error.status === 401) return leave("The key is no longer valid.");
    // Until it has an answer it knows of no event: it tries again.
    again ??= setTimeout(() => { again = null; refresh(); }, 2000);
  } finally {
    asking = false;
  }
  mendSoon();
  draw();
}

let mending = null;
const mendSoon = () => { if (model.dirty.size) mending ??= setTimeout(mend, 120); };

/** Asks again for the calls whose events said too little. */
async function mend() {
  const wanted = [...model.dirty];
  model.dirty.clear();
  try {
    if (wanted.length > MANY) return void refresh();
    await Promise.all(wanted.map(async (id) => {
      try {
        const { body, seq } = await asked("GET", `/v1/calls/${id}`);
        model.takeCall(body, seq, performance.now());
      } catch (error) {
        if (error.status === 404) model.gone(id, performance.now());
        else if (error.status === 401) leave("The key is no longer valid.");
      }
    }));
  } finally {
    mending = null;
    mendSoon();
    draw();
  }
}

async function health() {
  if (!act.may(NEEDS.alarms)) return;
  try {
    const [alarms, node] = await Promise.all([asked("GET", "/v1/alarms"), ask("GET", "/v1/node")]);
    if (!model.takeAlarms(alarms.body, alarms.seq)) setTimeout(health, 500);
    state.node = node;
  } catch { /* The stream tells when the node is away. */ }
  draw();
}

function onEvent(event) {
  const now = performance.now();
  const changed = model.take(event, now);
  if (changed && event.call === state.selected) {
    if (event.type === "collection-progress") say(`${event.received} keys`);
    if (event.type === "collection-ended" || event.type === "mask" || event.type === "payment-ended") say(words(event));
  }
  if (changed && event.type === "call-started" && (!state.selected || model.calls.get(state.selected)?.ended)) state.selected = event.call;
  pages[state.page]?.event?.(event);
  mendSoon();
  draw();
}

// ---- what the user wants ----

const act = {
  may: (what) => state.me?.may.includes(what) ?? false,
  /** For aria-disabled: a button that is really disabled would lose the focus. */
  busy: (key) => (state.busy.has(key) ? "true" : null),
  select(id) {
    state.selected = id;
    drawNow();
  },
  /** Shows a call on its view. */
  show(id) {
    state.selected = id;
    location.hash = "#/calls";
    drawNow();
    $("main").focus();
  },
  async run(key, done, work) {
    if (state.busy.has(key)) return;
    state.busy.add(key);
    drawNow();
    try {
      await work();
      if (done) toast(done);
    } catch (error) {
      toast(error.message, true);
    } finally {
      state.busy.delete(key);
      if (model.calls.has(state.selected)) model.dirty.add(state.selected);
      mendSoon();
      draw();
    }
  },
  toast,
  draw,
};

// ---- drawing ----

let due = null;
let drawn = 0;
function draw() {
  due ??= setTimeout(() => requestAnimationFrame(drawNow), Math.max(0, drawn + DRAW_MS - performance.now()));
}

function drawNow() {
  if (due !== null) clearTimeout(due);
  due = null;
  if (!state.me) return;
  drawn = performance.now();
  drawBar();
  pages[state.page]?.draw();
  tick(model, drawn);
}

/** Alarms that were spoken, by what tells one from the next. */
let told = new Map();

/** Says alarms that are new and those that are over, whether an event or an answer of the node brought them. */
function tellAlarms(list) {
  const now = new Map(list.map((alarm) => [`${alarm.alarm} ${alarm.since_ms}`, alarm]));
  for (const [id, alarm] of now) {
    if (told.has(id)) continue;
    if (alarm.severity === "critical") $("alarm").textContent = `Alarm: ${alarm.title}, ${alarm.subject}`;
    else say(`${alarm.title}, ${alarm.subject}`);
  }
  for (const [id, alarm] of told) if (!now.has(id)) say(`Over: ${alarm.title}, ${alarm.subject}`);
  told = now;
}

function drawBar() {
  const { list } = model.alarms;
  tellAlarms(list);
  const critical = list.filter((alarm) => alarm.severity === "critical");
  const badge = (id, count, kind) => {
    $(id).textContent = count || "";
    $(id).dataset.kind = kind;
    $(id).hidden = !count;
  };
  badge("tab-calls", model.live(), "plain");
  badge("tab-payments", model.captures().length, "plain");
  badge("tab-alarms", list.length, critical.length ? "bad" : "warn");
  document.title = `${list.length ? `(${list.length}) ` : ""}Tonewall – ${state.me.node}`;
  const leaving = state.node && state.node.state !== "running";
  $("leaving").hidden = !leaving;
  $("leaving").textContent = state.node?.state === "stopping" ? "Stopping" : "Draining: takes no new calls";
  $("strip").hidden = !critical.length || state.page === "alarms";
  put($("strip"), critical.length ? [icon("bell", 18), h("strong", {}, critical[0].title), h("span", {}, subject(critical[0].subject)),
    critical.length > 1 ? h("span", {}, `and ${critical.length - 1} more`) : null, h("a", { href: "#/alarms", "data-key": "strip" }, "What to do")] : []);
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
addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => { if (!document.hidden && state.me) { refresh(); health(); } });
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) pages[state.page]?.find?.(event);
});
setInterval(() => tick(model, performance.now()), 200);
setInterval(() => { if (state.me && !document.hidden) { refresh(); health(); } }, REPAIR_MS);
const known = restoreKey();
if (document.documentElement.dataset.demo === "true") startDemo($("demo"));
if (known) enter(); else gate();
