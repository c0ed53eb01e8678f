// The waveform of a recording: what the customer and the agent sounded like, above and below one line, and where the file
// says that something is not there: pauses, masks, what was taken out, what was lost. Drawn on a canvas; a slider to the
// keyboard and to screen readers.

import { clock, h } from "/assets/dom.js";

/** Kinds of stretches: words, colour, and whether it is hatched so that it is told apart without colours. */
export const STRETCH = {
  pause: ["Paused", "--warn", true], masked: ["Masked", "--good", false], redacted: ["Taken out", "--bad", true], lost: ["Lost", "--muted", true],
};
const STEP_MS = 5000;

export class Wave {
  /** `seek(ms)` is told where to go. */
  constructor(seek) {
    this.seek = seek;
    this.wave = null;
    this.at = 0;
    this.canvas = h("canvas", { class: "wave", role: "slider", tabindex: 0, "aria-label": "Place in the recording", "aria-valuemin": 0 });
    this.canvas.addEventListener("pointerdown", (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.go(((event.clientX - box.left) / box.width) * this.length);
    });
    this.canvas.addEventListener("keydown", (event) => {
      const to = { ArrowRight: this.at + STEP_MS, ArrowLeft: this.at - STEP_MS, PageDown: this.at + 6 * STEP_MS, PageUp: this.at - 6 * STEP_MS, Home: 0, End: this.length }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.go(to);
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  get length() { return Math.max(1, this.wave?.length_ms ?? 1); }

  go(ms) {
    if (this.wave) this.seek(Math.max(0, Math.min(this.length, ms)));
  }

  show(wave) {
    this.wave = wave;
    this.at = 0;
    this.draw();
  }

  /** The place that is heard now. */
  move(ms) {
    this.at = ms;
    this.draw();
  }

  /** Which stretch a place lies in. */
  stretch(ms) {
    return this.wave?.stretches.find(({ from_ms, to_ms }) => from_ms <= ms && ms < to_ms) ?? null;
  }

  draw() {
    const { canvas, wave } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !wave) return;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale)) [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    // The page's colours depend on light and dark: as a colour of the canvas itself the browser says what they are now.
    const colour = (name) => {
      canvas.style.color = `var(${name})`;
      return getComputedStyle(canvas).color;
    };
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const place = (ms) => (ms / this.length) * width;
    for (const { from_ms, to_ms, kind } of wave.stretches) {
      const [, name, hatched] = STRETCH[kind] ?? STRETCH.lost;
      const [left, wide] = [place(from_ms), Math.max(2, place(to_ms) - place(from_ms))];
      pen.fillStyle = pen.strokeStyle = colour(name);
      pen.globalAlpha = .22;
      pen.fillRect(left, 0, wide, height);
      pen.globalAlpha = .5;
      if (hatched) {
        pen.save();
        pen.beginPath();
        pen.rect(left, 0, wide, height);
        pen.clip();
        pen.beginPath();
        for (let x = left - height; x < left + wide; x += 8) { pen.moveTo(x, height); pen.lineTo(x + height, 0); }
        pen.stroke();
        pen.restore();
      }
      pen.globalAlpha = 1;
    }
    const middle = height / 2;
    for (const [peaks, side, name] of [[wave.customer, -1, "--accent"], [wave.agent, 1, "--muted"]]) {
      if (!peaks.length) continue;
      pen.fillStyle = colour(name);
      const bars = Math.min(peaks.length, Math.floor(width / 2));
      for (let bar = 0; bar < bars; bar += 1) {
        const [from, to] = [Math.floor((bar * peaks.length) / bars), Math.max(1, Math.floor(((bar + 1) * peaks.length) / bars))];
        let peak = 0;
        for (let n = from; n < to; n += 1) peak = Math.max(peak, peaks[n]);
        const tall = Math.max(1, peak * (middle - 4));
        const x = (bar / bars) * width;
        pen.fillRect(x, side < 0 ? middle - tall : middle + 1, Math.max(1, width / bars - 1), tall);
      }
    }
    pen.fillStyle = colour("--line");
    pen.fillRect(0, middle, width, 1);
    pen.fillStyle = colour("--text");
    pen.fillRect(Math.min(width - 2, place(this.at)), 0, 2, height);
    canvas.setAttribute("aria-valuemax", Math.round(this.length / 1000));
    canvas.setAttribute("aria-valuenow", Math.round(this.at / 1000));
    const inside = this.stretch(this.at);
    canvas.setAttribute("aria-valuetext", `${clock(this.at)} of ${clock(this.length)}${inside ? `, ${STRETCH[inside.kind]?.[0].toLowerCase() ?? inside.kind}` : ""}`);
  }
}
