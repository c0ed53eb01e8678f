// The agent's view of one call's payment. The address gives the call and a token that is good for it alone; the node tells
// how many keys were pressed and never which, so nothing here could show a digit.

import { call as ask, follow, restoreKey } from "/assets/api.js";
import { clock, h, icon, put } from "/assets/dom.js";

const $ = (id) => document.getElementById(id);

const NAMES = {
  "payment-card-number": "Card number", "expiration-date": "Expiry date", "security-code": "Security code",
  "postal-code": "Postal code", "bank-routing-number": "Routing number", "bank-account-number": "Account number",
};
const ASK = {
  "payment-card-number": "Ask for the long number on the card, then #",
  "expiration-date": "Ask for the expiry: two keys for the month, two for the year",
  "security-code": "Ask for the security code, then #",
  "postal-code": "Ask for the postal code, then #",
  "bank-routing-number": "Ask for the routing number",
  "bank-account-number": "Ask for the account number, then #",
};
const PLACE = {
  "payment-card-number": "payment_card_number", "expiration-date": "expiration_date", "security-code": "security_code",
  "postal-code": "postal_code", "bank-routing-number": "bank_routing_number", "bank-account-number": "bank_account_number",
};
const ORDER = Object.keys(NAMES);
const WRONG = {
  "input-timeout": "No keys came for a while. Ask again.",
  "invalid-card-number": "That is not a valid card number. Ask the customer to check it and key it again.",
  "invalid-card-type": "This kind of card is not taken. Ask for another card.",
  "invalid-date": "That date is not valid, or the card has expired.",
  "invalid-security-code": "The security code does not fit this card.",
  "invalid-postal-code": "That postal code is not valid.",
  "invalid-bank-routing-number": "That routing number is not valid.",
  "invalid-bank-account-number": "That account number is not valid.",
  "input-matching-failed": "The two entries differ. Ask for it again.",
};
const BRAND = {
  visa: "Visa", mastercard: "Mastercard", amex: "American Express", "diners-club": "Diners Club", discover: "Discover",
  jcb: "JCB", unionpay: "UnionPay", maestro: "Maestro", mir: "Mir", rupay: "RuPay", elo: "Elo", verve: "Verve",
  troy: "Troy", uatp: "UATP",
};
const ENDS = {
  success: ["good", "ok", "Payment taken", "Tell the customer that the payment went through."],
  declined: ["bad", "no", "Declined", "The bank said no. Nothing was charged. The customer may try another card."],
  unknown: ["warn", "pause", "Not confirmed yet",
    "The provider did not answer. Do not take the payment again: it will be found out whether it went through."],
  cancelled: ["off", "no", "Cancelled", "Nothing was charged, and what was keyed is wiped."],
  "caller-hung-up": ["off", "phone", "The customer hung up", "Nothing was charged, and what was keyed is wiped."],
  "too-many-failed-attempts": ["warn", "no", "Too many wrong entries", "Nothing was charged. Begin again if the customer wishes."],
  "payment-connector-error": ["bad", "no", "The payment provider cannot be reached", "Nothing was charged. Try again, or call your supervisor."],
  expired: ["warn", "pause", "Time is over", "Nothing was charged, and what was keyed is wiped."],
};

/** What the page knows: the call's view and when it was taken, its newest payment, fields seen, the last error. */
const state = { call: null, view: null, at: 0, payment: null, heard: 0, fields: [], wrong: {}, busy: null, fault: "", over: "", auto: true };
let mayBegin = false;

// ---- what the node tells ----

async function refresh() {
  const heard = state.heard;
  try {
    const [view, list] = await Promise.all([
      ask("GET", `/v1/calls/${state.call}`).catch((error) => { if (error.status === 404) return null; throw error; }),
      ask("GET", `/v1/calls/${state.call}/payments`),
    ]);
    if (view) [state.view, state.at] = [view, performance.now()];
    const ended = !view;
    showAnswer(heard, list.payments.at(-1) ?? null);
    if (ended && state.payment?.state !== "submitted") state.over = "This call is over.";
  } catch (error) {
    if (error.status === 401 || error.status === 403) state.over = "This panel is no longer valid. Open it again from your CRM.";
    else if (error.status === 404) state.over = "This call is over.";
    else state.fault = error.message;
  }
  draw();
}

/** Takes an answer of the node, unless a key was told while it was on its way: what it says is older than what is shown. */
function showAnswer(heard, payment) {
  if (heard === state.heard) show(payment);
  else refreshSoon();
}

/** Takes a payment as the node sees it now. */
function show(payment) {
  if (payment && payment.id !== state.payment?.id) [state.fields, state.wrong] = [[], {}];
  const before = state.payment;
  state.payment = payment;
  if (!payment) return;
  const there = [...payment.required, payment.capture, ...ORDER.filter((field) => payment[PLACE[field]])].filter(Boolean);
  for (const field of there) if (!state.fields.includes(field)) state.fields.push(field);
  state.fields.sort((a, b) => rank(a) - rank(b));
  if (payment.capture && !payment.partial_result) {
    if (payment.error_type) state.wrong[payment.capture] = payment.error_type;
    else delete state.wrong[payment.capture];
  } else if (payment.capture) delete state.wrong[payment.capture];
  if (before?.state !== payment.state || before?.result !== payment.result) tellFrame(payment);
}

const base = (field) => field.replace(/-matcher$/, "");
const rank = (field) => ORDER.indexOf(base(field)) * 2 + (field.endsWith("-matcher") ? 1 : 0);
const name = (field) => NAMES[base(field)] + (field.endsWith("-matcher") ? ", once more" : "");

function onEvent(event) {
  const payment = state.payment;
  if (event.type === "payment-updated" && payment?.id === event.payment) {
    // A mark for a key must not wait for another question to the node.
    const { seq, at_ms, call, type, payment: id, ...progress } = event;
    const cleared = Object.fromEntries([...Object.values(PLACE), "matcher", "error_type", "payment_card_type"].map((key) => [key, undefined]));
    state.heard += 1;
    show({ ...payment, ...cleared, ...progress });
    const count = keys(marksOf(payment.capture));
    if (progress.partial_result) {
      const now = keys(marksOf(progress.capture));
      if (now !== count) say(`${now} keys`);
    } else if (progress.error_type) alarm(`${name(progress.capture)}: ${WRONG[progress.error_type] ?? progress.error_type}`);
    else if (progress.capture) {
      say(`${name(progress.capture)} accepted`);
      if (state.auto && progress.required.length) wanted = progress.required.toSorted((a, b) => rank(a) - rank(b))[0];
      askNext();
    }
    return draw();
  }
  if (event.type === "payment-ended" || event.type === "payment-reconciled") alarm(ENDS[event.result]?.[2] ?? "The payment is over");
  if (event.type === "mask" && state.view) state.view.masked = event.on;
  if (event.type === "call-ended") state.over = "This call is over.";
  refreshSoon();
}

let due = null;
function refreshSoon() {
  due ??= setTimeout(() => { due = null; refresh(); }, 60);
}

// ---- what the agent wants ----

async function act(what, path, body) {
  if (state.busy) return;
  [state.busy, state.fault] = [what, ""];
  draw();
  const heard = state.heard;
  try {
    showAnswer(heard, await ask("POST", path, body));
  } catch (error) {
    state.fault = error.message;
    alarm(error.message);
  } finally {
    state.busy = null;
  }
  draw();
  askNext();
}

/** Asks for the next field by itself; one that becomes due while another request is under way waits for its end. */
let wanted = null;
function askNext() {
  if (!wanted || state.busy) return;
  const [field, payment] = [wanted, state.payment];
  wanted = null;
  if (payment?.state === "open" && payment.required.includes(field) && !payment.partial_result) capture(field);
}

const at = () => `/v1/calls/${state.call}/payments/${state.payment.id}`;
const capture = (field) => act(`capture-${field}`, at(), { capture: field });
const complete = () => act("complete", at(), { status: "complete" });
const cancel = () => act("cancel", at(), { status: "cancel" });

function begin(submitted) {
  submitted.preventDefault();
  const form = new FormData(submitted.target);
  act("begin", `/v1/calls/${state.call}/payments`, { charge_amount: form.get("amount").trim(), currency: form.get("currency"), postal_code: false });
}

// ---- drawing ----

const marksOf = (field) => (field ? (field.endsWith("-matcher") ? state.payment.matcher : state.payment[PLACE[field]]) ?? "" : "");
const keys = (marks) => marks.replace(/[^x*0-9]/g, "").length;

function draw() {
  const { payment, view } = state;
  put($("panel"),
    h("header", { class: "panel-top" },
      h("div", { class: "panel-who" },
        h("p", { class: "eyebrow" }, state.over ? "Call ended" : "Payment"),
        h("h1", {}, view?.caller || "Customer")),
      h("div", { class: "panel-safe" },
        h("span", { class: `chip ${view?.masked ? "good" : ""}` }, icon(view?.masked ? "shield" : "open", 15), view?.masked ? "Keys are masked" : "Keys are not masked"),
        view?.paused ? h("span", { class: "chip warn" }, icon("pause", 15), "Recording paused") : null,
        h("span", { class: "chip timer-chip", id: "age", "aria-label": "call time" }))),
    payment ? [amount(payment), payment.state === "open" && !state.over ? open(payment) : payment.state === "submitted" ? waiting() : outcome(payment)] : blank(),
    state.fault ? h("p", { class: "panel-error" }, state.fault) : null,
    state.over ? h("p", { class: "muted" }, state.over) : null,
    mayBegin && !state.over && (!payment || payment.state === "ended") ? beginForm() : null);
  tick();
  tellHeight();
}

function amount(payment) {
  const brand = BRAND[payment.payment_card_type];
  return h("div", { class: "amount" },
    h("strong", {}, payment.charge_amount ? `${payment.charge_amount} ${payment.currency}` : "Save the card, no charge"),
    h("span", { class: "muted" }, payment.payment_method === "ach-debit" ? "Bank account" : brand ?? "Card"));
}

function open(payment) {
  const missing = payment.required.filter((field) => field !== payment.capture || !payment.partial_result);
  return [
    h("ol", { class: "fields" }, state.fields.map((field, n) => row(payment, field, n + 1))),
    h("div", { class: "panel-acts" },
      h("button", { type: "button", class: "primary", "data-key": "complete", id: "complete", disabled: payment.required.length > 0,
        "aria-disabled": state.busy ? "true" : null, onclick: complete }, icon("ok"), payment.charge_amount ? "Take the payment" : "Save the card"),
      h("button", { type: "button", class: "ghost", "data-key": "cancel", id: "cancel", "aria-disabled": state.busy ? "true" : null, onclick: cancel }, "Cancel")),
    h("label", { class: "check" },
      h("input", { type: "checkbox", "data-key": "auto", checked: state.auto, onchange: (event) => { state.auto = event.target.checked; } }),
      "Ask for the next one by itself"),
    missing.length ? null : h("p", { class: "hidden" }, "All is there."),
  ];
}

function row(payment, field, number) {
  const asking = payment.capture === field && payment.partial_result;
  const marks = marksOf(field);
  const wrong = !asking && state.wrong[field];
  const done = !asking && !wrong && !payment.required.includes(field);
  const kind = asking ? "asking" : done ? "done" : wrong ? "wrong" : "open";
  const note = asking ? ASK[base(field)] : wrong ? WRONG[wrong] ?? wrong : done ? "Accepted" : "Not asked yet";
  return h("li", { class: "field", "data-state": kind, "data-field": field },
    h("span", { class: "field-state", "aria-hidden": "true" }, done ? icon("ok", 16) : wrong ? icon("no", 16) : String(number)),
    h("h2", {}, name(field), " ", marks ? dots(marks, asking) : null),
    h("button", { type: "button", class: asking || done ? "small ghost" : "small", "data-key": `capture-${field}`, "data-capture": field,
      "aria-disabled": state.busy ? "true" : null, "aria-label": `${asking || done || wrong ? "Ask again for" : "Ask for"} ${name(field)}`,
      onclick: () => capture(field) }, asking ? "Start over" : done || wrong ? "Ask again" : "Ask"),
    h("p", { class: "field-note" }, note));
}

/** One dot per key; what the node shows of the last digits stands as it is. */
function dots(marks, asking) {
  const places = [...marks];
  return h("span", { class: "dots", role: "img", "aria-label": `${keys(marks)} keys` }, places.map((mark, n) =>
    mark === "x" || mark === "*" ? h("i", { class: asking && n === places.length - 1 ? "new" : null })
      : /[0-9]/.test(mark) ? h("span", {}, mark) : h("b", {})));
}

function waiting() {
  return h("div", { class: "outcome", "data-outcome": "submitted" }, h("span", { class: "spin", "aria-hidden": "true" }),
    h("h2", {}, "With the payment provider…"), h("p", {}, "This takes a few seconds. Keep the customer on the line."));
}

function outcome(payment) {
  const [kind, sign, title, text] = ENDS[payment.result] ?? ["off", "no", state.over || "Over", ""];
  return h("div", { class: `outcome ${kind}`, "data-outcome": payment.result ?? "none" }, icon(sign, 44), h("h2", {}, title), h("p", {}, text),
    payment.payment_confirmation_code ? h("p", {}, "Reference ", h("code", {}, payment.payment_confirmation_code)) : null,
    payment.pay_error_code ? h("p", { class: "muted" }, `Code: ${payment.pay_error_code}`) : null);
}

function blank() {
  return h("div", { class: "outcome" }, icon("card", 44), h("h2", {}, "No payment yet"),
    h("p", {}, mayBegin ? "Say the amount to begin. From then on the customer’s keys are masked and recording pauses." : "It appears here as soon as your CRM begins one."));
}

function beginForm() {
  return h("form", { class: "begin", onsubmit: begin },
    h("label", { for: "amount" }, "Amount"),
    h("input", { id: "amount", name: "amount", "data-key": "amount", inputmode: "decimal", pattern: "[0-9]{1,9}([.][0-9]{1,3})?", required: true, autocomplete: "off", placeholder: "10.50" }),
    h("select", { name: "currency", "data-key": "currency", "aria-label": "Currency" }, ["USD", "EUR", "GBP", "CAD", "AUD"].map((code) => h("option", {}, code))),
    h("button", { type: "submit", class: "primary", "data-key": "begin", "aria-disabled": state.busy ? "true" : null }, "Begin the payment"));
}

function tick() {
  const place = $("age");
  if (!place || !state.view) return;
  place.textContent = clock((state.view.talk_ms ?? state.view.age_ms) + (state.over ? 0 : performance.now() - state.at));
}

let spoken = null;
function say(text) {
  clearTimeout(spoken);
  spoken = setTimeout(() => { $("say").textContent = text; }, 400);
}

function alarm(text) {
  $("alarm").textContent = text;
}

// ---- the page around this one ----

const origins = document.documentElement.dataset.origins.split(" ").filter(Boolean);

function post(message) {
  if (parent === window) return;
  for (const origin of origins) parent.postMessage({ type: "tonewall-payment", ...message }, origin);
}

const tellFrame = ({ id, state, result }) => post({ payment: id, state, result: result ?? null });
let height = 0;
function tellHeight() {
  const now = document.documentElement.scrollHeight;
  if (now !== height) post({ height: height = now });
}

// ---- start ----

const given = new URLSearchParams(location.hash.slice(1));
// A reload of the frame finds them again; another call's panel overwrites them. Where storage is blocked it does not.
const kept = (name) => { try { return sessionStorage.getItem(name); } catch { return null; } };
const keep = (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* Lost with the page. */ } };
if (given.get("call")) {
  keep("tonewall.call", given.get("call"));
  keep("tonewall.begin", given.get("begin") ?? "0");
}
state.call = given.get("call") ?? kept("tonewall.call");
mayBegin = (given.get("begin") ?? kept("tonewall.begin")) === "1";
if (!restoreKey("token") || !state.call) {
  put($("panel"), h("div", { class: "outcome" }, icon("shield", 44), h("h2", {}, "Open this panel from your CRM"),
    h("p", {}, "Its address is good for one call and for a short time.")));
} else {
  follow({
    open: refresh, event: onEvent, missed: refreshSoon, closed: () => refreshSoon(),
    refused: refresh,
  }, new AbortController().signal, `/v1/calls/${state.call}/events`);
  setInterval(tick, 500);
}
