// The view of alarms: what is wrong, since when, and what to do; and what is over.

import { call as ask } from "/assets/api.js";
import { h, icon, put } from "/assets/dom.js";

export function alarmsPage(root, model, state, act) {
  const settle = (id) => act.run(`settle-${id}`, "Settled", () => ask("DELETE", `/v1/alarms/${encodeURIComponent(id)}`));
  const may = () => act.may("settle alarms");

  function card(alarm) {
    const bad = alarm.severity === "critical";
    return h("li", { class: `card alarm ${bad ? "bad" : "warn"}`, "data-key": alarm.alarm, "data-alarm": alarm.kind },
      h("span", { class: "alarm-sign" }, icon("bell", 22)),
      h("div", { class: "alarm-text" },
        h("p", { class: "eyebrow" }, bad ? "Critical" : "Warning", alarm.count > 1 ? ` · ${alarm.count} times` : ""),
        h("h3", {}, alarm.title, ": ", subject(alarm.subject)),
        alarm.detail ? h("p", {}, alarm.detail) : null,
        h("p", { class: "alarm-advice" }, h("strong", {}, "What to do: "), alarm.advice)),
      h("div", { class: "alarm-side" },
        h("span", { class: "muted" }, "since ", h("time", { datetime: new Date(alarm.since_ms).toISOString() }, time(alarm.since_ms))),
        h("span", { class: "timer small", "data-since": alarm.since_ms }),
        alarm.by_hand && may() ? h("button", { type: "button", class: "small", "data-key": `settle-${alarm.alarm}`, "aria-disabled": act.busy(`settle-${alarm.alarm}`),
          onclick: () => settle(alarm.alarm) }, "Settle") : h("span", { class: "muted small" }, alarm.by_hand ? "" : "ends by itself")));
  }

  return {
    draw() {
      const { list, cleared, unlisted } = model.alarms;
      put(root, h("div", { class: "page" },
        h("div", { class: "head" }, h("h2", { class: "page-title" }, list.length ? `${list.length} ${list.length === 1 ? "thing needs" : "things need"} somebody` : "Nothing needs you")),
        list.length ? h("ul", { class: "alarms" }, list.map(card))
          : h("div", { class: "card blank small-blank" }, icon("ok", 36), h("p", {}, "No alarm stands."), h("p", { class: "muted" }, "Trunks, recorders, payments and webhooks are as they should be.")),
        unlisted ? h("p", { class: "muted" }, `${unlisted} more were raised and not listed: too many stand.`) : null,
        h("section", { class: "card", "aria-labelledby": "over-title" },
          h("div", { class: "head" }, h("h2", { id: "over-title" }, "Over")),
          cleared.length ? h("ul", { class: "over" }, cleared.slice(0, 40).map((end) => h("li", { "data-key": `${end.alarm} ${end.cleared_ms}` },
            h("time", { datetime: new Date(end.cleared_ms).toISOString() }, time(end.cleared_ms)), h("span", {}, `${end.kind.replaceAll("-", " ")}: ${subject(end.subject)}`),
            h("span", { class: "muted" }, `lasted ${span(end.lasted_ms)}${end.by ? `, settled by ${end.by.replace("key:", "")}` : ""}`))))
            : h("p", { class: "muted" }, "None yet."))));
    },
  };
}

/** With what something is wrong, in words. */
export const subject = (name) => (name === "sealed" ? "sealed files" : name);

function time(ms) {
  const at = new Date(ms);
  const clock = at.toLocaleTimeString([], { hour12: false });
  return at.toDateString() === new Date().toDateString() ? clock : `${at.toLocaleDateString()} ${clock}`;
}

/** A length of time in words. */
export function span(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min` : `${Math.floor(s / 86_400)} d ${Math.floor(s / 3600) % 24} h`;
}
