// The view of recordings: search, one recording with its waveform and its sound, labels, legal hold, export, destruction.
// Whoever listens or exports says why first; the node writes it into its audit log. What is in quarantine has no sound here.

import { call as ask } from "/assets/api.js";
import { bytes } from "/assets/health.js";
import { clock, h, icon, put } from "/assets/dom.js";
import { STRETCH, Wave } from "/assets/wave.js";

const PAGE = 50;
const STATE = {
  recording: ["calm", "Being recorded"], finalising: ["calm", "Being checked"], sealed: ["good", "Sealed"], interrupted: ["warn", "Cut off"],
  quarantined: ["bad", "Quarantined"], destroyed: ["off", "Destroyed"], held: ["warn", "Held"],
};
const PURPOSES = ["Customer’s question or complaint", "Dispute about a payment", "Quality and coaching", "Legal or regulatory request", "Security or audit"];

/** The node's words for it, in one place. */
const api = {
  list: (query) => ask("GET", `/v1/recordings?${new URLSearchParams(query)}`),
  get: (id) => ask("GET", `/v1/recordings/${id}`),
  open: (id, purpose) => ask("POST", `/v1/recordings/${id}/access`, { purpose }),
  wave: (id, purpose) => ask("GET", `/v1/recordings/${id}/waveform?${new URLSearchParams({ purpose })}`),
  label: (id, labels) => ask("PATCH", `/v1/recordings/${id}`, { labels }),
  hold: (id, reason) => ask("POST", `/v1/recordings/${id}/hold`, { reason }),
  release: (id, reason) => ask("DELETE", `/v1/recordings/${id}/hold`, { reason }),
  destroy: (id, reason) => ask("DELETE", `/v1/recordings/${id}`, { reason }),
};

export function recordingsPage(root, model, state, act) {
  const wish = { number: "", state: "", from: "", until: "", label: "" };
  const known = { list: [], next: null, asked: false, fault: "", one: null, wave: null, faultOne: "" };
  /** Why each recording is listened to, as long as this page is open. */
  const purposes = new Map();
  const audio = h("audio", { preload: "none", controls: true, class: "player", "aria-label": "Recording" });
  const wave = new Wave((ms) => {
    audio.currentTime = ms / 1000;
    wave.move(ms);
  });
  audio.addEventListener("timeupdate", () => wave.move(audio.currentTime * 1000));
  audio.addEventListener("error", () => { if (audio.getAttribute("src")) fail("The sound could not be loaded. Your access may be over; open it again."); });

  const form = h("form", { class: "search card", onsubmit: (event) => { event.preventDefault(); find(); } },
    field("Number", h("input", { type: "search", name: "number", "data-key": "number", placeholder: "caller, agent, or its end", autocomplete: "off" })),
    field("State", h("select", { name: "state", "data-key": "state" }, h("option", { value: "" }, "Any"),
      Object.entries(STATE).map(([value, [, text]]) => h("option", { value }, text)))),
    field("From", h("input", { type: "date", name: "from", "data-key": "from" })),
    field("Until", h("input", { type: "date", name: "until", "data-key": "until" })),
    field("Label", h("input", { type: "search", name: "label", "data-key": "label", placeholder: "name=value", autocomplete: "off" })),
    h("button", { type: "submit", class: "primary", "data-key": "search" }, "Search"));
  const results = h("section", { class: "card results", "aria-label": "Recordings found" });
  const one = h("section", { class: "one", "aria-label": "Recording", tabindex: -1 });
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title" });
  root.append(h("div", { class: "page recordings" }, form, h("div", { class: "split" }, results, one)), dialog);

  function field(label, input) {
    return h("label", {}, h("span", {}, label), input);
  }

  const fail = (text) => { known.faultOne = text; act.draw(); };

  async function find(more = false) {
    const said = new FormData(form);
    for (const name of Object.keys(wish)) wish[name] = String(said.get(name) ?? "").trim();
    const query = { limit: PAGE };
    if (wish.number) query.number = wish.number;
    if (wish.state) query.state = wish.state;
    if (wish.label) query.label = wish.label;
    if (wish.from) query.from = new Date(`${wish.from}T00:00`).toISOString();
    if (wish.until) query.until = new Date(Date.parse(`${wish.until}T00:00`) + 86_400_000).toISOString();
    if (more && known.next) query.after = known.next;
    try {
      const { recordings, next } = await api.list(query);
      Object.assign(known, { list: more ? [...known.list, ...recordings] : recordings, next: next ?? null, asked: true, fault: "" });
    } catch (error) {
      known.fault = error.message;
    }
    act.draw();
  }

  async function choose(id, focus = true) {
    audio.pause();
    audio.removeAttribute("src");
    Object.assign(known, { one: known.list.find((entry) => entry.id === id) ?? { id }, wave: null, faultOne: "" });
    act.draw();
    try {
      known.one = await api.get(id);
    } catch (error) {
      known.faultOne = error.message;
    }
    act.draw();
    if (focus) {
      one.focus({ preventScroll: true });
      if (matchMedia("(max-width: 980px)").matches) one.scrollIntoView({ block: "start" });
    }
  }

  /** Asks why, once for each recording. */
  async function purposeOf(id) {
    if (!purposes.has(id)) {
      const said = await question("Why do you open this recording?", "It is written into the audit log with your name.", PURPOSES, "Open");
      if (!said) return null;
      purposes.set(id, said);
    }
    return purposes.get(id);
  }

  const listen = (id) => act.run(`listen-${id}`, null, async () => {
    const purpose = await purposeOf(id);
    if (!purpose) return;
    try {
      known.wave = await api.wave(id, purpose);
      const access = await api.open(id, purpose);
      audio.src = `/v1/recordings/${id}/audio?ticket=${encodeURIComponent(access.ticket)}`;
      wave.show(known.wave);
      known.faultOne = "";
    } catch (error) {
      fail(error.message);
      throw error;
    }
  });

  const change = (key, done, work) => act.run(key, done, async () => {
    await work();
    await choose(known.one.id, false);
    await find();
  });

  async function hold(entry) {
    const said = await question("Put this recording under legal hold?", "Nobody can destroy it, and no deadline does, until the hold is lifted.", [], "Hold");
    if (said) change("hold", "Held", () => api.hold(entry.id, said));
  }

  async function release(entry) {
    const said = await question("Lift the legal hold?", "The recording’s deadline counts again. If it has passed, it is destroyed.", [], "Lift the hold");
    if (said) change("hold", "The hold is lifted", () => api.release(entry.id, said));
  }

  async function destroy(entry) {
    const said = await question("Destroy this recording?", "Its key is destroyed. Nobody can ever play it again, you included. Only a note of it stays.", [], "Destroy for good", true);
    if (said) change("destroy", "Destroyed", () => api.destroy(entry.id, said));
  }

  /** A question with a reason; the answer, or null. */
  function question(title, text, choices, yes, grave = false) {
    return new Promise((answered) => {
      const reason = h("input", { name: "reason", required: true, maxlength: 200, autocomplete: "off", "aria-label": "In your words", placeholder: "In your words" });
      put(dialog, h("form", { method: "dialog" },
        h("h2", { id: "ask-title" }, title), h("p", {}, text),
        choices.length ? h("div", { class: "choices" }, choices.map((choice) => h("button", { type: "button", class: "small", onclick: () => { reason.value = choice; reason.focus(); } }, choice))) : null,
        reason,
        h("div", { class: "row acts" }, h("button", { type: "submit", class: grave ? "danger" : "primary" }, yes),
          h("button", { type: "button", class: "ghost", onclick: () => dialog.close("") }, "Not now"))));
      const form = dialog.querySelector("form");
      form.onsubmit = (event) => {
        event.preventDefault();
        if (reason.value.trim()) dialog.close(reason.value.trim());
      };
      dialog.onclose = () => { const said = dialog.returnValue; dialog.returnValue = ""; put(dialog); answered(said || null); };
      dialog.returnValue = "";
      dialog.showModal();
      reason.focus();
    });
  }

  function addLabel(event, entry) {
    event.preventDefault();
    const [name, ...value] = new FormData(event.target).get("label").split("=");
    if (!name.trim() || !value.length) return act.toast("Write a label as name=value", true);
    event.target.reset();
    change("label", "Labelled", () => api.label(entry.id, { [name.trim()]: value.join("=").trim() }));
  }

  async function save(entry, format) {
    const purpose = await purposeOf(entry.id);
    if (!purpose) return;
    act.run(`save-${format}`, "The export is being loaded", async () => {
      const { ticket } = await api.open(entry.id, purpose);
      const link = h("a", { href: `/v1/recordings/${entry.id}/export?${new URLSearchParams({ format, ticket })}`, download: `${entry.id}.${format === "opus" ? "ogg" : format}` });
      link.click();
    });
  }

  function row(entry) {
    const [kind, text] = STATE[entry.hold && entry.state !== "destroyed" ? "held" : entry.state] ?? ["off", entry.state];
    return h("tr", { "data-key": entry.id, "data-recording": entry.id, "aria-current": known.one?.id === entry.id ? "true" : null, onclick: () => choose(entry.id) },
      h("td", {}, h("button", { type: "button", class: "link", "data-key": `open-${entry.id}`, "aria-label": `Open the recording of ${when(entry.started_ms)}` }, when(entry.started_ms))),
      h("td", {}, entry.caller || "–", h("span", { class: "arrow", "aria-label": "to" }, " → "), entry.agent || entry.called || "–"),
      h("td", { class: "number" }, clock(entry.length_ms)), h("td", {}, h("span", { class: `chip ${kind}` }, text)));
  }

  function shown(entry) {
    const [kind, text] = STATE[entry.state] ?? ["off", entry.state];
    const withheld = WITHHELD[entry.state];
    return [
      h("header", { class: "card title" },
        h("div", { class: "title-text" }, h("p", { class: "eyebrow" }, when(entry.started_ms)),
          h("h1", {}, h("span", {}, entry.caller || "unknown"), h("span", { class: "arrow", "aria-label": "to" }, "→"), h("span", {}, entry.agent || entry.called || "unknown")),
          h("p", { class: "muted" }, `${entry.from_trunk} → ${entry.to_trunk}`, h("br", {}), h("code", {}, entry.id))),
        h("div", { class: "title-right" }, entry.hold ? h("span", { class: "chip warn" }, icon("lock", 14), "Legal hold") : null, h("span", { class: `chip ${kind}` }, text), h("span", { class: "timer" }, clock(entry.length_ms)))),
      known.faultOne ? h("p", { class: "panel-error", role: "alert" }, known.faultOne) : null,
      withheld ? h("section", { class: `card blank small-blank withheld ${kind}` }, icon(entry.state === "quarantined" ? "no" : "lock", 34), h("h2", {}, withheld[0]), h("p", { class: "muted" }, withheld[1]),
        entry.self_audit ? h("p", {}, entry.self_audit.detail) : null, entry.tombstone ? h("p", {}, `By ${entry.tombstone.by}, ${when(entry.tombstone.at_ms)}: ${entry.tombstone.why}`) : null)
        : !act.may("hear or export recordings") ? h("section", { class: "card" }, h("p", { class: "muted" }, "Your role may not hear recordings."))
        : h("section", { class: "card", "aria-labelledby": "sound-title" },
          h("div", { class: "head" }, h("h2", { id: "sound-title" }, "Sound"), known.wave ? h("span", { class: "muted" }, "customer above, agent below") : null),
          known.wave ? [h("div", { class: "sound", "data-key": `sound-${entry.id}`, "data-keep": entry.id }), legend(known.wave)]
            : h("div", { class: "row" }, h("button", { type: "button", class: "primary", "data-key": `listen-${entry.id}`, id: "listen", "aria-disabled": act.busy(`listen-${entry.id}`), onclick: () => listen(entry.id) }, icon("play", 16), "Listen"),
              h("span", { class: "muted" }, "You are asked why. That stands in the audit log.")),
          h("div", { class: "row acts" },
            [["wav", "Export WAV"], ["opus", "Export Opus"]].map(([format, words]) => h("button", { type: "button", "data-key": `save-${format}`, "aria-disabled": act.busy(`save-${format}`), onclick: () => save(entry, format) }, words)))),
      h("section", { class: "card", "aria-labelledby": "about-title" },
        h("div", { class: "head" }, h("h2", { id: "about-title" }, "About it")),
        facts([["Began", when(entry.started_ms)], ["Length", clock(entry.length_ms)], ["Gaps", entry.gaps], ["Size", bytes(entry.bytes ?? 0)],
          ["Kept until", entry.keep_until_ms ? when(entry.keep_until_ms) : "for good"], ["Where", WHERE[entry.whereabouts] ?? entry.whereabouts], ["Key", entry.kek_id],
          ["Checked", entry.self_audit ? `${VERDICT[entry.self_audit.verdict] ?? entry.self_audit.verdict}, ${when(entry.self_audit.at_ms)}` : "not yet"],
          entry.hold && ["Held", `by ${entry.hold.by}: ${entry.hold.why}`], ["Call", entry.call ?? "–"]]),
        h("div", { class: "labels" }, h("h3", {}, "Labels"),
          Object.entries(entry.labels ?? {}).length ? h("ul", { class: "row" }, Object.entries(entry.labels).map(([name, value]) => h("li", { class: "chip" }, `${name}: ${value}`))) : h("p", { class: "muted" }, "None."),
          entry.state === "destroyed" || !act.may("label recordings") ? null : h("form", { class: "row", onsubmit: (event) => addLabel(event, entry) },
            h("input", { name: "label", "data-key": "new-label", type: "search", placeholder: "name=value", "aria-label": "New label, as name=value", autocomplete: "off" }),
            h("button", { type: "submit", class: "small", "data-key": "label", "aria-disabled": act.busy("label") }, "Add"))),
        entry.state === "destroyed" ? null : h("div", { class: "row acts" },
          !act.may("put recordings under legal hold") ? null : entry.hold ? h("button", { type: "button", "data-key": "hold", "aria-disabled": act.busy("hold"), onclick: () => release(entry) }, icon("lock", 15), "Lift the legal hold")
            : h("button", { type: "button", "data-key": "hold", "aria-disabled": act.busy("hold"), onclick: () => hold(entry) }, icon("lock", 15), "Legal hold"),
          entry.hold || !act.may("destroy recordings") ? null : h("button", { type: "button", class: "danger push", "data-key": "destroy", "aria-disabled": act.busy("destroy"), onclick: () => destroy(entry) }, "Destroy…"))),
    ];
  }

  return {
    opened() { if (!known.asked) find(); },
    event(event) { if (event.type === "recording" && (event.state === "closed" || event.state === "failed")) find(); },
    find(event) {
      event.preventDefault();
      form.elements.number.focus();
    },
    draw() {
      put(results, h("div", { class: "head" }, h("h2", {}, "Recordings"), h("span", { class: "count" }, `${known.list.length}${known.next ? "+" : ""}`)),
        known.fault ? h("p", { class: "panel-error", role: "alert" }, known.fault) : null,
        known.list.length ? h("table", {}, h("thead", {}, h("tr", {}, ["Began", "Who", "Length", "State"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, known.list.map(row)))
          : h("p", { class: "empty" }, known.asked ? "No recording is like that." : "Asking…"),
        known.next ? h("button", { type: "button", class: "wide", "data-key": "more", onclick: () => find(true) }, "More") : null);
      put(one, known.one?.started_ms ? shown(known.one) : h("div", { class: "card blank" }, icon("disk", 40), h("h1", {}, "Choose a recording"),
        h("p", { class: "muted" }, "What is played or exported here never held a card digit: it was masked before it was written.")));
      const place = one.querySelector("[data-keep]");
      if (place && !place.contains(audio)) place.append(wave.canvas, audio);
      wave.draw();
    },
  };
}

const WITHHELD = {
  recording: ["Still being recorded", "It can be played when the call is over."], finalising: ["Being checked", "It can be played when the check is over."],
  quarantined: ["In quarantine", "The last check found what may be a key press. It is kept, and cannot be played or exported."],
  destroyed: ["Destroyed", "No key opens it any more."],
};
const VERDICT = { clean: "clean", hit: "something was found", failed: "could not be checked" };
const WHERE = { local: "this node", both: "this node and the store", store: "the store", nowhere: "nowhere" };
const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value ?? "–")))));
const when = (ms) => new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "medium", hour12: false });

function legend(wave) {
  const kinds = [...new Set(wave.stretches.map(({ kind }) => kind))];
  return h("ul", { class: "legend" }, kinds.map((kind) => {
    const all = wave.stretches.filter((stretch) => stretch.kind === kind);
    const ms = all.reduce((sum, { from_ms, to_ms }) => sum + to_ms - from_ms, 0);
    return h("li", { class: "legend-item", "data-stretch": kind }, h("i", { class: `swatch ${kind}` }), `${STRETCH[kind]?.[0] ?? kind}: ${all.length === 1 ? "once" : `${all.length} times`}, ${(ms / 1000).toFixed(1)} s`);
  }));
}
