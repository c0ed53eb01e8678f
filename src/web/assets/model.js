// What the page knows: calls, payments, alarms and the newest events, as the node tells them. No drawing here. Each answer
// says which event it is sure to know of, each event has its number: an answer older than an event already applied never
// overwrites it, and an event that an answer already knows is not applied again.

const ENDED_STAYS_MS = 120_000;
const PAID_STAYS_MS = 15 * 60_000;
const MOST_PAID = 200;
const MOST_STARTED = 2000;
const LOG_KEPT = 400;
/** The most calls one answer holds; with as many, what is not among them may still be there. */
export const MOST_CALLS = 1000;

const MARKS = ["payment_card_number", "expiration_date", "security_code", "postal_code", "bank_routing_number", "bank_account_number", "matcher",
  "error_type", "payment_card_type"];

export class Model {
  constructor() { this.clear(); }

  clear() {
    /** By id: the node's view, when it was taken, whole spans of its holds, numbers of the answer and of the newest event in it. */
    this.calls = new Map();
    /** Captures that are over, by id. */
    this.paid = new Map();
    this.alarms = { list: [], cleared: [], unlisted: 0 };
    this.log = [];
    this.started = new Map();
    /** Calls to be asked for again. */
    this.dirty = new Set();
    this.restart();
  }

  /** The stream begins anew: numbers may too. Until the first answer is there, events are only told in the log. */
  restart() {
    this.seq = Infinity;
    this.alarmSeq = Infinity;
    for (const held of this.calls.values()) [held.seq, held.heard] = [0, 0];
  }

  // ---- answers ----

  /** Every call, as an answer that knows of event `seq` has them. */
  takeCalls(views, seq, now) {
    const there = new Set();
    for (const view of views) {
      there.add(view.id);
      this.takeCall(view, seq, now);
    }
    if (views.length < MOST_CALLS) {
      for (const [id, held] of this.calls) if (!there.has(id) && held.heard <= seq) this.end(held, null, now);
    }
    if (!views.length && !this.calls.size) this.recall(now);
    this.seq = seq;
    this.sweep(now);
  }

  takeCall(view, seq, now) {
    const old = this.calls.get(view.id);
    // The answer was on its way while something newer was told: what is shown stays, and is asked for again.
    if (old && (old.heard > seq || old.seq > seq)) return void this.dirty.add(view.id);
    this.calls.set(view.id, { view, at: now, spans: spansOf(view, old, now), ended: null, seq, heard: old?.heard ?? 0 });
    this.dirty.delete(view.id);
  }

  /** The node does not know the call any more. */
  gone(id, now) {
    const held = this.calls.get(id);
    if (held) this.end(held, null, now);
    this.dirty.delete(id);
  }

  takeAlarms({ alarms, cleared, unlisted }, seq) {
    if (this.alarmsHeard > seq) return false;
    this.alarms = { list: alarms, cleared, unlisted };
    this.alarmSeq = seq;
    return true;
  }

  end(held, cause, now) {
    held.ended ??= { at: now, cause };
    if (cause) held.ended.cause = cause;
  }

  /** Forgets what ended long ago. */
  sweep(now, keep = null) {
    for (const [id, held] of this.calls) if (held.ended && now - held.ended.at > ENDED_STAYS_MS && id !== keep) this.calls.delete(id);
    for (const [id, paid] of this.paid) if (now - paid.at > PAID_STAYS_MS || this.paid.size > MOST_PAID) this.paid.delete(id);
  }

  // ---- events ----

  /** Takes an event; true when it changed a call that is shown. */
  take(event, now) {
    this.log.unshift(event);
    this.log.length = Math.min(this.log.length, LOG_KEPT);
    if (event.type === "call-started") {
      this.started.set(event.call, event);
      if (this.started.size > MOST_STARTED) this.started.delete(this.started.keys().next().value);
    }
    if (event.type === "payment-ended" || event.type === "payment-reconciled") this.pay(event, now);
    if (event.type === "alarm-raised" || event.type === "alarm-cleared") this.alarm(event);
    if (!(event.seq > this.seq) || !event.call) return false;
    let held = this.calls.get(event.call);
    if (!held) {
      if (event.type !== "call-started") return void this.dirty.add(event.call);
      held = { view: begun(event), at: now, spans: new Map(), ended: null, seq: 0, heard: 0 };
      this.calls.set(event.call, held);
      this.dirty.add(event.call);
    }
    if (event.seq <= held.seq) return false;
    held.heard = event.seq;
    absorb(held, event, now);
    if (event.type === "call-ended") this.end(held, event.cause, now);
    if (ASK_AGAIN.has(event.type) && !held.ended) this.dirty.add(event.call);
    return true;
  }

  alarm(event) {
    this.alarmsHeard = event.seq;
    if (!(event.seq > this.alarmSeq)) return;
    const { seq, at_ms, call, type, ...told } = event;
    this.alarms.list = this.alarms.list.filter((one) => one.alarm !== told.alarm);
    if (type === "alarm-raised") this.alarms.list.unshift(told);
    else this.alarms.cleared = [{ ...told, cleared_ms: at_ms }, ...this.alarms.cleared].slice(0, 100);
    this.alarms.list.sort((a, b) => (a.severity === b.severity ? b.since_ms - a.since_ms : a.severity === "critical" ? -1 : 1));
  }

  pay(event, now) {
    const before = this.paid.get(event.payment);
    const view = this.calls.get(event.call)?.view;
    const from = view ?? this.started.get(event.call);
    this.paid.delete(event.payment);
    this.paid.set(event.payment, {
      ...(before ?? { payment: view?.payment?.id === event.payment ? view.payment : null }),
      id: event.payment, call: event.call, caller: before?.caller ?? from?.caller ?? "", agent: before?.agent ?? from?.agent ?? from?.called ?? "",
      result: event.result, code: event.pay_error_code ?? null, reference: event.payment_confirmation_code ?? null, at: now, at_ms: event.at_ms,
    });
  }

  /** When no call is there: the last one the log tells of, so that a page opened late has something to show. */
  recall(now) {
    const last = this.log.find((event) => event.type === "call-ended");
    if (!last || Date.now() - last.at_ms > 10 * 60_000) return;
    const told = this.log.filter((event) => event.call === last.call).reverse();
    const started = told.find((event) => event.type === "call-started");
    if (!started) return;
    const view = { ...begun(started), state: "ending", age_ms: last.talk_ms, talk_ms: last.talk_ms };
    const held = { view, at: now, spans: new Map(), ended: { at: now, cause: last.cause }, seq: 0, heard: 0 };
    for (const event of told) absorb(held, event, now);
    Object.assign(view, { age_ms: last.talk_ms, talk_ms: last.talk_ms, holds: [] });
    this.calls.set(last.call, held);
  }

  // ---- what is shown ----

  /** Captures that are open: payments and plain collections, oldest first. */
  captures() {
    const open = [];
    for (const held of this.calls.values()) {
      if (held.ended) continue;
      if (held.view.payment && held.view.payment.state !== "ended") open.push({ held, payment: held.view.payment });
      else if (held.view.collection?.state === "open") open.push({ held, collection: held.view.collection });
    }
    return open;
  }

  live() {
    let count = 0;
    for (const held of this.calls.values()) if (!held.ended) count += 1;
    return count;
  }
}

/** What an event says too little of: the call is asked for again. */
const ASK_AGAIN = new Set(["call-started", "call-answered", "call-transferred", "payment-started", "payment-submitted", "payment-ended", "collection-started",
  "leg-held", "unmaskable", "unmaskable-stopped"]);

function begun(event) {
  return {
    id: event.call, state: "setting-up", caller: event.caller, called: event.called, agent: event.called,
    from_trunk: event.from_trunk, to_trunk: event.to_trunk, reference: null, age_ms: 0, talk_ms: null,
    guard: "signal", masked: false, paused: false, keys_masked: 0, holds: [], collection: null, payment: null, recording: null,
  };
}

/** What an event changes in a call. */
function absorb(held, event, now) {
  const { view } = held;
  switch (event.type) {
    case "call-answered":
      [view.state, view.talk_ms, view.age_ms, held.at] = ["answered", 0, view.age_ms + (now - held.at), now];
      break;
    case "call-transferred":
      if (event.leg === "agent") view.agent = event.to;
      break;
    case "mask": view.masked = event.on; break;
    case "key-masked": view.keys_masked = event.count; break;
    case "hold-taken":
      view.holds = [...view.holds.filter((hold) => hold.id !== event.hold),
        { id: event.hold, kind: event.kind, owner: event.owner, reason: event.reason, age_ms: 0, ttl_ms: event.ttl_ms }];
      held.spans.set(event.hold, { until: now + event.ttl_ms, whole: event.ttl_ms });
      break;
    case "hold-renewed":
      held.spans.set(event.hold, { until: now + event.ttl_ms, whole: event.ttl_ms });
      break;
    case "hold-released": case "hold-expired":
      view.holds = view.holds.filter((hold) => hold.id !== event.hold);
      break;
    case "collection-progress":
      view.collection = { ...(view.collection ?? { min: 0, max: 0 }), id: event.collection, state: "open", received: event.received, mask: event.mask, result: null, luhn: null };
      break;
    case "collection-ended":
      view.collection = { ...(view.collection ?? { min: 0, max: 0, mask: "" }), id: event.collection, state: "ended", received: event.count, result: event.result, luhn: event.luhn };
      break;
    case "payment-updated": {
      if (view.payment && view.payment.id !== event.payment) break;
      const { seq, at_ms, call, type, payment: id, ...progress } = event;
      const cleared = Object.fromEntries(MARKS.map((name) => [name, undefined]));
      view.payment = { ...(view.payment ?? { id, state: "open", payment_connector: "", charge_amount: null, currency: null, by: "", result: null }), ...cleared, ...progress };
      break;
    }
    case "payment-submitted":
      if (view.payment?.id === event.payment) view.payment = { ...view.payment, state: "submitted", partial_result: false };
      break;
    case "payment-ended":
      if (view.payment?.id === event.payment) view.payment = { ...view.payment, state: "ended", result: event.result, partial_result: false };
      break;
    case "recording":
      view.recording = { id: event.recording, state: event.state };
      break;
    default:
  }
  if (event.type.startsWith("hold-") || event.type === "recording") {
    view.paused = view.holds.some((hold) => hold.kind === "pause") || view.recording?.state === "paused";
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
