// Elements, numbers and times. Text of others is only ever set as text.

export const $ = (id) => document.getElementById(id);

/** An element with properties, attributes (aria-…, data-…, role) and children; strings become text. */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key.includes("-") || key === "role" || key === "scope") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const counts = new Intl.NumberFormat("en");

export const count = (value) => counts.format(value);

export const plural = (value, word, words = `${word}s`) => `${count(value)} ${value === 1 ? word : words}`;

/** A duration as two of its units at most: 850 ms, 3 s, 12 min, 5 h, 2 days. */
export function span(seconds) {
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1).replace(/\.0$/, "") : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${count(Math.round(seconds / 86400))} days`;
}

/** A time in the reader's zone, or nothing. */
export function when(text) {
  if (!text) return "";
  const at = new Date(text);
  const two = (value) => String(value).padStart(2, "0");
  return (
    `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
  );
}

/** An IPv4 address as a number, and back. */
export const ip = (text) => text.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
export const dotted = (value) =>
  [16777216, 65536, 256, 1].map((step) => Math.floor(value / step) % 256).join(".");

/** Runs something soon, never twice at once, and with pauses that grow with what it costs. */
export class Soon {
  constructor(work, pause) {
    this.work = work;
    this.pause = pause;
    this.timer = 0;
    this.runs = false;
    this.again = false;
    this.ready = 0;
  }

  ask() {
    if (this.runs) this.again = true;
    else if (!this.timer) this.timer = setTimeout(() => this.now(), Math.max(0, this.ready - performance.now()));
  }

  async now() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.runs) {
      this.again = true;
      return;
    }
    this.runs = true;
    const began = performance.now();
    try {
      await this.work();
    } finally {
      const end = performance.now();
      this.ready = end + Math.max(this.pause, 4 * (end - began));
      this.runs = false;
      if (this.again) {
        this.again = false;
        this.ask();
      }
    }
  }
}
