// The view of captures: what callers are keying now, on all calls, as marks; and how the last ones ended.

import { h, icon, put } from "/assets/dom.js";
import { LongList } from "/assets/list.js";
import { BRAND, ERROR, FIELD, PAID, fieldsOf } from "/assets/view.js";

const ROW = 96;

export function paymentsPage(root, model, state, act) {
  root.append(
    h("div", { class: "page" },
      h("section", { class: "card", "aria-labelledby": "open-title" },
        h("div", { class: "head" }, h("h2", { id: "open-title" }, "In progress"), h("span", { class: "count", id: "open-count" }, "0")),
        h("p", { class: "muted" }, "One mark per key. Nobody, this page included, is told which keys."),
        h("div", { id: "captures", class: "long captures" })),
      h("section", { class: "card", "aria-labelledby": "paid-title" },
        h("div", { class: "head" }, h("h2", { id: "paid-title" }, "Just ended")),
        h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-labelledby": "paid-title" },
          h("table", {}, h("thead", {}, h("tr", {}, ["When", "Customer", "Agent", "Amount", "Result", "Reference or code"].map((text) => h("th", { scope: "col" }, text)))),
            h("tbody", { id: "paid" }))))));
  const $ = (id) => root.querySelector(`#${id}`);
  const list = new LongList($("captures"), {
    height: ROW, label: "Captures in progress", key: ({ held }) => held.view.id, row: captureRow, choose: act.select, open: act.show,
    empty: () => h("div", { class: "empty" }, icon("card", 22), h("p", {}, "Nobody is keying anything now."),
      h("p", { class: "muted" }, "Payments and collections appear here as they begin.")),
  });
  $("captures").addEventListener("dblclick", () => { if (state.selected) act.show(state.selected); });
  return {
    draw() {
      const open = model.captures();
      list.set(open, state.selected);
      $("open-count").textContent = open.length;
      const paid = [...model.paid.values()].reverse().slice(0, 60);
      put($("paid"), paid.length ? paid.map(paidRow) : h("tr", {}, h("td", { colspan: 6, class: "muted" }, "None in the last quarter of an hour.")));
    },
  };
}

function captureRow({ held, payment, collection }) {
  const { view } = held;
  const who = h("div", { class: "capture-who" }, h("strong", {}, view.caller || "unknown"), h("span", { class: "muted" }, `agent ${view.agent || view.called}`),
    h("span", { class: "muted", "data-age": view.id }));
  if (!payment) {
    return h("div", { class: "capture" }, who,
      h("div", { class: "capture-what" }, h("strong", {}, "Collection"), h("span", { class: "chip calm" }, `${collection.received}${collection.max ? ` of ${collection.max}` : ""} keys`)),
      h("div", { class: "capture-fields" }, h("span", { class: "mark-line" }, collection.mask)));
  }
  const asking = payment.partial_result ? payment.capture : null;
  const status = payment.state === "submitted" ? ["calm", "With the provider"]
    : payment.error_type && !asking ? ["warn", `${FIELD[base(payment.capture)] ?? "Field"}: ${ERROR[payment.error_type] ?? payment.error_type}`]
      : asking ? ["calm", `Keying: ${(FIELD[base(asking)] ?? asking).toLowerCase()}`]
        : payment.required?.length ? ["off", `Missing: ${payment.required.map((name) => (FIELD[base(name)] ?? name).toLowerCase()).join(", ")}`] : ["good", "All is there"];
  return h("div", { class: "capture", "data-payment": payment.id }, who,
    h("div", { class: "capture-what" },
      h("strong", {}, payment.charge_amount ? `${payment.charge_amount} ${payment.currency}` : "Token, no charge"),
      h("span", { class: "muted" }, [BRAND[payment.payment_card_type], payment.payment_connector].filter(Boolean).join(" · ")),
      h("span", { class: `chip ${status[0]}` }, status[1])),
    h("div", { class: "capture-fields" }, fieldsOf(payment).map(([label, marks]) => h("span", { class: "chip" }, label, h("code", {}, marks)))));
}

const base = (field) => (field ?? "").replace(/-matcher$/, "");

function paidRow(paid) {
  const [kind, text] = PAID[paid.result] ?? ["off", paid.result];
  return h("tr", { "data-key": paid.id },
    h("td", {}, new Date(paid.at_ms).toLocaleTimeString([], { hour12: false })), h("td", {}, paid.caller || "unknown"), h("td", {}, paid.agent),
    h("td", {}, paid.payment?.charge_amount ? `${paid.payment.charge_amount} ${paid.payment.currency}` : "–"),
    h("td", {}, h("span", { class: `chip ${kind}` }, text)), h("td", {}, paid.reference || paid.code ? h("code", {}, paid.reference ?? paid.code) : "–"));
}
