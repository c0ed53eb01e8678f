// <tonewall-payment src="…the panel's address…"></tonewall-payment>: the payment panel as an element of a CRM's page. It
// holds a frame and tells what happens to the payment as "tonewall-payment" events, whose detail has payment, state,
// result and no digit.

class TonewallPayment extends HTMLElement {
  static observedAttributes = ["src"];
  #frame = null;
  #listen = (message) => {
    if (!this.#frame || message.source !== this.#frame.contentWindow) return;
    if (message.origin !== new URL(this.#frame.src).origin || message.data?.type !== "tonewall-payment") return;
    if (message.data.height) this.#frame.style.height = `${Math.ceil(message.data.height)}px`;
    else this.dispatchEvent(new CustomEvent("tonewall-payment", { detail: message.data, bubbles: true }));
  };

  connectedCallback() {
    addEventListener("message", this.#listen);
    this.#show();
  }

  disconnectedCallback() {
    removeEventListener("message", this.#listen);
    this.#frame?.remove();
    this.#frame = null;
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#show();
  }

  #show() {
    this.#frame?.remove();
    this.#frame = null;
    if (!this.getAttribute("src")) return;
    const frame = document.createElement("iframe");
    frame.title = "Payment";
    frame.style.cssText = "border: 0; width: 100%; min-height: 420px; display: block; color-scheme: normal";
    frame.referrerPolicy = "no-referrer";
    // An address without a host is one of the node that this script came from.
    frame.src = new URL(this.getAttribute("src"), import.meta.url).href;
    this.#frame = frame;
    this.append(frame);
  }
}

if (!customElements.get("tonewall-payment")) customElements.define("tonewall-payment", TonewallPayment);
