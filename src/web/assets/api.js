// The way to the node: one key, kept in this tab only; JSON calls; an event stream over fetch, because EventSource
// cannot send the Authorization header and a key does not belong in a URL.

let store = "tonewall.key";
let key = null;

/** A problem document (RFC 9457) as an error. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** The key of this tab: from a one-time fragment (#key=…, or #token=… of a panel), which is removed from the address at once, or kept. */
export function restoreKey(name = "key") {
  store = `tonewall.${name}`;
  const found = new URLSearchParams(location.hash.slice(1)).get(name);
  if (found) {
    history.replaceState(null, "", location.pathname + location.search);
    setKey(found);
  } else {
    try { key = sessionStorage.getItem(store); } catch { key = null; }
  }
  return key;
}

export function setKey(value) {
  key = value;
  try {
    if (value) sessionStorage.setItem(store, value); else sessionStorage.removeItem(store);
  } catch { /* Storage is blocked: the key lives in memory only. */ }
}

/** The answer's body. */
export async function call(method, path, body) {
  return (await asked(method, path, body)).body;
}

/** The answer's body, and the number of the newest event it is sure to know of. */
export async function asked(method, path, body) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
  });
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
  return { body: answer.status === 204 ? null : await answer.json(), seq: Number(answer.headers.get("tonewall-seq") ?? 0) };
}

/**
 * Follows `path` (all events) for ever: on.open, on.event(event), on.missed(count), on.closed(); on.refused() ends it. Begins
 * with the oldest event the node keeps ("0.0" is nobody's id), so that the log is not empty at first.
 */
export async function follow(on, signal, path = "/v1/events") {
  let last = "0.0";
  let rest = 500;
  while (!signal.aborted) {
    try {
      const headers = { Authorization: `Bearer ${key}`, "Last-Event-ID": last };
      const answer = await fetch(path, { headers, signal, cache: "no-store" });
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) return on.refused(answer.status);
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      rest = 500;
      on.open();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const frame = parse(text.slice(0, end));
          if (frame.id) last = frame.id;
          if (frame.name === "missed") on.missed(JSON.parse(frame.data).missed);
          else if (frame.data) on.event(JSON.parse(frame.data));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
    }
    on.closed();
    await new Promise((wake) => setTimeout(wake, rest));
    rest = Math.min(rest * 2, 8000);
  }
}

function parse(block) {
  const frame = { id: "", name: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const field = line.slice(0, colon);
    const value = line.slice(colon + 1).trimStart();
    if (field === "id") frame.id = value;
    if (field === "event") frame.name = value;
    if (field === "data") frame.data += value;
  }
  return frame;
}
