// How a call looks: its row in the list, the view of one, and an event in words. Nothing here knows a digit; a mark stands
// for a key.

import { clock, h, icon } from "/assets/dom.js";

const RECORDING = { recording: "Recording", paused: "Paused", closed: "Sealed", failed: "Failed" };
const CAUSE = {
  "customer-hung-up": "customer hung up", "agent-hung-up": "agent hung up", cancelled: "caller gave up",
  rejected: "not answered", "media-inactivity": "no sound from either side", timeout: "no answer to a request",
  "session-expired": "session not refreshed",
  "recorder-failed": "recorder failed", operator: "ended by an operator", joined: "joined with another call", failure: "fault",
};
const RESULT = { complete: "Complete", "input-timeout": "Timed out", cancelled: "Cancelled", "caller-hung-up": "Caller hung up" };
/** How payments end: kind of chip, words. */
export const PAID = {
  success: ["good", "taken"], declined: ["bad", "declined"], unknown: ["warn", "not confirmed yet"], cancelled: ["off", "cancelled"],
  "caller-hung-up": ["off", "caller hung up"], "too-many-failed-attempts": ["warn", "too many wrong entries"],
  "payment-connector-error": ["bad", "provider could not be used"], expired: ["warn", "time is over"],
};
const paid = (result) => PAID[result]?.[1] ?? result;
export const FIELD = {
  "payment-card-number": "Card", "expiration-date": "Expiry", "security-code": "Code", "postal-code": "Postal code",
  "bank-routing-number": "Routing number", "bank-account-number": "Account",
};
export const ERROR = {
  "input-timeout": "no keys came", "invalid-card-number": "not a card number", "invalid-card-type": "card not taken", "invalid-date": "date not valid",
  "invalid-security-code": "does not fit the card", "invalid-postal-code": "not valid", "invalid-bank-routing-number": "not valid",
  "invalid-bank-account-number": "not valid", "input-matching-failed": "the two entries differ",
};
export const BRAND = {
  visa: "Visa", mastercard: "Mastercard", amex: "American Express", "diners-club": "Diners Club", discover: "Discover",
  jcb: "JCB", unionpay: "UnionPay", maestro: "Maestro", mir: "Mir", rupay: "RuPay", elo: "Elo", verve: "Verve",
  troy: "Troy", uatp: "UATP",
};
/** What stands in a payment's fields, as marks. */
export const fieldsOf = (p) => [["Card", p.payment_card_number], ["Expiry", p.expiration_date], ["Code", p.security_code], ["Postal code", p.postal_code],
  ["Routing number", p.bank_routing_number], ["Account", p.bank_account_number], ["Once more", p.matcher]].filter(([, marks]) => marks);
const STATE = { "setting-up": "Setting up", answered: "In call", ending: "Ending" };

/** A call in the list. */
export function callRow(held) {
  const { view, ended } = held;
  const failed = view.recording?.state === "failed";
  const soonest = ended ? null : view.holds.toSorted((a, b) => (held.spans.get(a.id)?.until ?? 0) - (held.spans.get(b.id)?.until ?? 0))[0];
  return h("div", { class: "call-card", "data-ended": ended ? "" : null },
    h("span", { class: "call-line" }, h("span", { class: "call-who" }, view.caller || "unknown"), h("span", { class: "call-time", "data-age": view.id })),
    h("span", { class: "call-line" },
      h("span", { class: "call-sub" }, ended ? "ended" : view.state === "setting-up" ? `ringing ${view.called}` : `agent ${view.agent || view.called}`),
      h("span", { class: "chips" },
        failed ? h("span", { class: "chip bad", "aria-label": "recording failed" }, "rec") : null,
        !ended && view.codecs?.maskable === false ? h("span", { class: "chip bad" }, "not maskable") : null,
        !ended && view.payment && view.payment.state !== "ended" ? h("span", { class: "chip calm" }, "payment") : null,
        !ended && view.masked ? h("span", { class: "chip good" }, "masked", soonest?.kind === "mask" ? h("i", { class: "chip-left", "data-left": soonest.id }) : null) : null,
        !ended && view.paused ? h("span", { class: "chip warn" }, "paused") : null)));
}

export function callView(held, act) {
  const { view, ended } = held;
  const live = !ended;
  return h("article", { class: "stack", "data-ended": ended ? "" : null },
    h("header", { class: "card title" },
      h("div", { class: "title-text" },
        h("p", { class: "eyebrow" }, live ? STATE[view.state] : `Ended${ended.cause ? ` · ${CAUSE[ended.cause]}` : ""}`),
        h("h1", {}, h("span", {}, view.caller || "unknown"), h("span", { class: "arrow", "aria-label": "to" }, "→"),
          h("span", {}, view.agent || view.called)),
        h("p", { class: "muted" }, `${view.from_trunk} → ${view.to_trunk}`, view.reference ? ` · ${view.reference}` : "")),
      h("div", { class: "title-right" },
        h("span", { class: "timer", "data-age": view.id, "aria-label": "call time" }),
        live && act.may("end calls") ? h("button", {
          type: "button", class: "danger", "data-key": "hang-up", "aria-disabled": act.busy("hang-up"), onclick: () => act.hangUp(view.id),
        }, "Hang up") : null)),
    h("div", { class: "tiles" }, digitsTile(view, live), recordingTile(view), keysTile(view)),
    payment(view),
    collection(view, live, act),
    live ? holds(view, act) : null);
}

function digitsTile(view, live) {
  const words = { always: "Always masked on this trunk", auto: "Withheld; sent on when they are no card" };
  const on = live && view.masked;
  if (live && view.codecs?.maskable === false) {
    return tile("bad", "no", "Customer’s digits", "Cannot be masked",
      on ? "Their codec cannot be heard: the agent gets silence while the mask is on" : "Their codec cannot be heard: keys in the sound pass");
  }
  return tile(on ? "good" : live && view.guard !== "off" ? "calm" : "off", on ? "shield" : "open", "Customer’s digits",
    on ? "Masked" : live ? "Passing" : "–",
    on ? (words[view.guard] ?? "The agent and the recording get none") : live ? "No mask is in force" : "Call ended");
}

function recordingTile(view) {
  const rec = view.recording;
  if (!rec) return tile("off", "rec", "Recording", "Off", "This trunk is not recorded");
  const kind = { recording: "rec", paused: "warn", closed: "good", failed: "bad" }[rec.state];
  const note = {
    recording: "Masked sound only, sealed as it is written", paused: "Marked silence until released",
    closed: "Encrypted and complete", failed: "What was sealed stays readable",
  }[rec.state];
  return tile(kind, rec.state === "paused" ? "pause" : "rec", "Recording", RECORDING[rec.state], note);
}

function keysTile(view) {
  return tile(view.keys_masked ? "good" : "off", "keys", "Keys masked", String(view.keys_masked),
    view.keys_masked ? "Heard, counted, never passed on" : "None so far");
}

function tile(kind, name, label, value, note) {
  return h("section", { class: `card tile ${kind}` },
    h("span", { class: "tile-icon" }, icon(name, 20)),
    h("h2", {}, label), h("p", { class: "tile-value" }, value), h("p", { class: "muted" }, note));
}

function collection(view, live, act) {
  const c = view.collection;
  const open = c?.state === "open";
  const marks = c ? Math.max(c.max || 0, c.received) : 0;
  const body = c ? [
    h("div", { class: `marks ${open ? "open" : "done"}`, role: "img", "aria-label": `${c.received}${c.max ? ` of ${c.max}` : ""} keys` },
      Array.from({ length: marks }, (_, at) => h("i", { class: at < c.received ? "on" : null, "data-group": at % 4 === 3 ? "" : null }))),
    h("div", { class: "row" },
      h("p", { class: "marks-count" }, h("strong", {}, String(c.received)), c.max ? ` of ${c.min === c.max ? c.max : `${c.min}–${c.max}`} keys` : " keys"),
      open ? h("span", { class: "chip calm" }, "collecting…") : [
        h("span", { class: `chip ${c.result === "complete" ? "good" : "warn"}` }, RESULT[c.result] ?? "Ended"),
        c.luhn === null || c.luhn === undefined ? null
          : h("span", { class: `chip ${c.luhn ? "good" : "bad"}` }, icon(c.luhn ? "ok" : "no", 14), c.luhn ? "Luhn check passed" : "Luhn check failed"),
      ],
      open && act.may("start or cancel collections") ? h("button", {
        type: "button", class: "ghost push", "data-key": "cancel", "aria-disabled": act.busy("cancel"), onclick: () => act.cancel(view.id, c.id),
      }, "Cancel") : null),
  ] : [h("p", { class: "muted" }, "No digits have been asked for. While a collection is open the mask and the recording pause are in force, and each key shows as one mark.")];
  const start = live && !open && act.may("start or cancel collections") ? h("form", {
    class: "row collect", onsubmit: (event) => { event.preventDefault(); act.collect(view.id, act.form.length); },
  },
  h("label", { for: "length" }, "Keys"),
  h("select", { id: "length", "data-key": "length", onchange: (event) => { act.form.length = event.target.value; } },
    [["16", "16 – card number"], ["15", "15 – card number (Amex)"], ["4", "4 – expiry, or code (Amex)"], ["3", "3 – security code"]]
      .map(([value, text]) => h("option", { value, selected: act.form.length === value }, text))),
  h("button", { type: "submit", class: "primary", "data-key": "collect", disabled: view.state !== "answered", "aria-disabled": act.busy("collect") }, "Collect digits")) : null;
  return h("section", { class: "card", "aria-labelledby": "collection-title" },
    h("div", { class: "head" }, h("h2", { id: "collection-title" }, "Collection"), icon("card")), body, start);
}

function holds(view, act) {
  const may = act.may("take or release holds");
  const rows = view.holds.map((hold) => {
    const pinned = hold.owner === "capture" || hold.owner === "payment";
    return h("li", { class: `hold ${hold.kind}` },
      h("span", { class: "hold-kind" }, icon(hold.kind === "mask" ? "shield" : "pause", 16), hold.kind === "mask" ? "Mask" : "Pause"),
      h("span", { class: "hold-who" }, h("strong", {}, hold.owner), hold.reason ? h("span", { class: "muted" }, ` · ${hold.reason}`) : null),
      h("span", { class: "hold-left", "data-left": hold.id, role: "timer" }),
      may && !pinned ? h("span", { class: "hold-acts" },
        h("button", { type: "button", class: "ghost small", "data-key": `renew-${hold.id}`, "aria-disabled": act.busy(`renew-${hold.id}`), onclick: () => act.renew(view.id, hold.id) }, "Renew"),
        h("button", { type: "button", class: "ghost small", "data-key": `release-${hold.id}`, "aria-disabled": act.busy(`release-${hold.id}`), onclick: () => act.release(view.id, hold.id) }, "Release"),
      ) : h("span", { class: "hold-acts muted" }, pinned ? "until it is over" : ""),
      h("span", { class: "hold-bar", "aria-hidden": "true" }, h("i", { "data-bar": hold.id })));
  });
  const take = (kind, name, text) => h("button", {
    type: "button", "data-key": `hold-${kind}`, "aria-disabled": act.busy(`hold-${kind}`), onclick: () => act.hold(view.id, kind),
  }, icon(name, 16), text);
  return h("section", { class: "card", "aria-labelledby": "holds-title" },
    h("div", { class: "head" }, h("h2", { id: "holds-title" }, "Holds"), h("span", { class: "count" }, String(view.holds.length))),
    rows.length ? h("ul", { class: "holds" }, rows)
      : h("p", { class: "muted" }, "None in force. A hold is a lease: it ends by itself when nobody renews it."),
    may ? h("div", { class: "row acts" }, take("mask", "shield", "Mask digits"), take("pause", "pause", "Pause recording"),
      take("both", "card", "Both")) : null);
}

function paymentWords(event) {
  const field = (event.capture ?? "").replaceAll("-", " ");
  if (event.partial_result) return `Payment: ${field} being keyed`;
  return event.error_type ? `Payment: ${field} not accepted (${event.error_type.replaceAll("-", " ")})` : `Payment: ${field} accepted`;
}

/** The payment of a call as its agent's panel has it: what is there, what is missing. Steered there, only seen here. */
function payment(view) {
  const p = view.payment;
  if (!p) return null;
  const over = p.state === "ended";
  const kind = over ? PAID[p.result]?.[0] ?? "off" : "calm";
  const text = over ? paid(p.result) : p.state === "submitted" ? "with the provider"
    : p.capture && p.partial_result ? `${p.capture.replaceAll("-", " ")} being keyed` : "open";
  const fields = fieldsOf(p);
  return h("section", { class: "card", "aria-labelledby": "payment-title" },
    h("div", { class: "head" }, h("h2", { id: "payment-title" }, "Payment"), icon("card")),
    h("div", { class: "row" },
      h("strong", {}, p.charge_amount ? `${p.charge_amount} ${p.currency}` : "No charge, a token"),
      h("span", { class: "muted" }, [BRAND[p.payment_card_type], p.payment_connector, p.by && `begun by ${p.by}`].filter(Boolean).join(" · ")),
      h("span", { class: `chip push ${kind}` }, text)),
    fields.length ? h("ul", { class: "row acts" }, fields.map(([label, marks]) => h("li", { class: "chip" }, label, h("code", {}, marks)))) : null,
    !over && p.error_type && !p.partial_result ? h("p", { class: "bad-text" }, `${FIELD[(p.capture ?? "").replace(/-matcher$/, "")] ?? "Field"}: ${ERROR[p.error_type] ?? p.error_type}`) : null,
    !over && p.required?.length ? h("p", { class: "muted" }, `Still missing: ${p.required.map((name) => name.replaceAll("-", " ")).join(", ")}`) : null);
}

/** Moves the clocks and bars that are in the document; called five times a second and after each drawing. */
export function tick(model, now) {
  const say = (place, text) => { if (place.textContent !== text) place.textContent = text; };
  for (const place of document.querySelectorAll("[data-age]")) {
    const held = model.calls.get(place.dataset.age);
    if (!held) continue;
    const since = (held.ended ? held.ended.at : now) - held.at;
    say(place, clock((held.view.talk_ms ?? held.view.age_ms) + Math.max(0, since)));
  }
  for (const place of document.querySelectorAll("[data-since]")) say(place, clock(Date.now() - Number(place.dataset.since)));
  const spans = new Map();
  const span = (id) => {
    if (!spans.size) for (const held of model.calls.values()) if (!held.ended) for (const [hold, span] of held.spans) spans.set(hold, span);
    return spans.get(id);
  };
  for (const place of document.querySelectorAll("[data-left]")) {
    const found = span(place.dataset.left);
    if (found) say(place, clock(Math.max(0, found.until - now) + 999));
  }
  for (const bar of document.querySelectorAll("[data-bar]")) {
    const found = span(bar.dataset.bar);
    const part = found?.whole ? Math.max(0, found.until - now) / found.whole : 0;
    bar.style.transform = `scaleX(${Math.min(1, part)})`;
    bar.classList.toggle("low", part < 0.2);
  }
}

/** An event in words. */
export function words(event) {
  switch (event.type) {
    case "call-started": return `Call from ${event.caller || "unknown"} to ${event.called} (${event.from_trunk} → ${event.to_trunk})`;
    case "call-answered": return "Answered";
    case "call-ended": return `Ended: ${CAUSE[event.cause] ?? event.cause}${event.talk_ms ? ` after ${clock(event.talk_ms)}` : ""}`;
    case "hold-taken": return `${event.kind === "mask" ? "Mask" : "Pause"} hold taken by ${event.owner}${event.reason ? ` – ${event.reason}` : ""}`;
    case "hold-renewed": return `${event.kind === "mask" ? "Mask" : "Pause"} hold renewed for ${clock(event.ttl_ms)}`;
    case "hold-released": return `${event.kind === "mask" ? "Mask" : "Pause"} hold released by ${event.by}`;
    case "hold-expired": return `${event.kind === "mask" ? "Mask" : "Pause"} hold expired`;
    case "mask": return event.on ? "Mask on" : "Mask off";
    case "key-masked": return `Key masked (${event.count})`;
    case "keys-released": return `No card: ${event.count} withheld keys sent on`;
    case "keys-wiped": return `${event.count} withheld keys wiped`;
    case "collection-started": return "Collection started";
    case "collection-progress": return `Collecting ${event.mask}`;
    case "collection-ended": return `Collection ${(RESULT[event.result] ?? event.result).toLowerCase()}: ${event.count} keys, Luhn ${event.luhn ? "passed" : "failed"}`;
    case "call-media": return `Media: customer sent ${event.customer.received} packets, agent ${event.agent.received}; ${event.customer.lost + event.agent.lost} lost`;
    case "recording": return event.state === "recording" ? "Recording on" : `Recording ${(RECORDING[event.state] ?? event.state).toLowerCase()}`;
    case "payment-started": return `Payment begun by ${event.by}`;
    case "payment-updated": return paymentWords(event);
    case "payment-submitted": return "Payment given to the provider";
    case "payment-ended": return `Payment: ${paid(event.result)}`;
    case "payment-reconciled": return `Payment found out: ${paid(event.result)}`;
    case "star-code": return event.action === "begin" ? "Agent’s star code: holds taken" : "Agent’s star code: holds released";
    case "call-transferred": return `${event.leg === "agent" ? "Agent" : "Customer"} side transferred to ${event.to}`;
    case "leg-held": return `${event.leg === "agent" ? "Agent" : "Customer"} ${event.held ? "put the call on hold" : "took the call back"}`;
    case "trunk-target": return `Trunk ${event.trunk}: ${event.target} ${event.up ? "answers again" : "does not answer"}`;
    case "registration": return `Trunk ${event.trunk}: ${event.registered ? "registered" : "not registered"}`;
    case "unmaskable": return `${event.leg === "agent" ? "Agent’s" : "Customer’s"} codec ${event.codec} can be neither heard nor masked`;
    case "unmaskable-stopped": return event.on ? "What cannot be masked is held back" : "What cannot be masked goes on";
    case "recording-quarantined": return `Recording put in quarantine: ${event.reason}`;
    case "recording-redacted": return "What was heard of a card was taken out of the recording";
    case "recorder": return `Recorder ${event.recorder}: ${event.state}${event.reason ? ` – ${event.reason}` : ""}`;
    case "spill": return `Spill for recorder ${event.recorder} ${event.state}${event.reason ? ": " + event.reason : ""}`;
    case "recorder-target": return `Recorder ${event.recorder}: ${event.target} ${event.up ? "answers again" : "does not answer"}`;
    case "alarm-raised": return `Alarm: ${event.title}: ${event.subject}${event.detail ? ` – ${event.detail}` : ""}`;
    case "alarm-cleared": return `Alarm over: ${event.alarm.replace(":", ": ")}`;
    case "missed": return "Some events were missed; the view was brought up to date";
    default: return event.type;
  }
}
