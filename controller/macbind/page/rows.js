// The rows of the table: allocations in the order of their addresses, and the free space between them. No element here.

import { dotted, ip } from "./dom.js";

export const MOST = 50000;
const plain = (text) => text.toLowerCase().replace(/[:.\-\s]/g, "");

/** An allocation as the service sends it: an array. Its texts are made when they are needed: few rows are seen. */
class Row {
  constructor(values) {
    this.number = values[0];
    this.macNumber = values[1];
    this.name = values[2];
    this.generation = values[3];
    this.state = values[4];
    this.group = values[5];
    this.domain = values[6];
    this.createdAt = values[7];
    this.isReserved = values[8];
    this.renumbersFrom = values[9];
    this.isDoubted = values[10];
    this.labels = values[11];
  }

  get address() {
    return dotted(this.number);
  }

  get mac() {
    return this.macDigits.match(/../g).join(":");
  }

  get macDigits() {
    return this.macNumber.toString(16).padStart(12, "0");
  }

  get labelText() {
    return Object.entries(this.labels ?? {})
      .map(([key, value]) => (value ? `${key}=${value}` : key))
      .join(", ");
  }

  get isReleased() {
    return this.state === "releasing" || this.state === "cooling";
  }

  /** Whether a search has found it; what is searched is kept. */
  has(wanted, digits) {
    this.searched ??= [this.address, this.mac, this.name, this.group, this.domain, this.labelText].filter(Boolean).join("\n").toLowerCase();
    return this.searched.includes(wanted) || (digits !== "" && this.macDigits.includes(digits));
  }
}

export class Rows {
  constructor() {
    this.all = []; // sorted by number
    this.gaps = [];
  }

  /** More rows, whose addresses are above all others. */
  add(rows) {
    for (const values of rows) this.all.push(new Row(values));
  }

  place(number) {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.all[middle].number < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  at(address) {
    const number = ip(address);
    const one = this.all[this.place(number)];
    return one?.number === number ? one : null;
  }

  /** What these addresses (numbers) are now: those of the rows, and no others. */
  put(numbers, rows) {
    const now = new Map(rows.map((values) => [values[0], values]));
    for (const number of numbers) {
      const at = this.place(number);
      const isThere = this.all[at]?.number === number;
      if (now.has(number)) this.all.splice(at, isThere ? 1 : 0, new Row(now.get(number)));
      else if (isThere) this.all.splice(at, 1);
    }
  }

  /** Those that are on their way to another state. */
  unsettled() {
    return this.all.filter((one) => one.state !== "bound").map((one) => one.number);
  }

  /** What is listed: all that match, and without a search the gaps between them. */
  listed(search, withGaps) {
    const wanted = search.trim().toLowerCase();
    if (wanted) {
      const hex = /^[0-9a-f:.\-\s]{2,17}$/.test(wanted) ? plain(wanted) : "";
      return this.all.filter((one) => one.has(wanted, hex.length >= 4 ? hex : ""));
    }
    if (!withGaps) return this.all;
    const merged = [];
    let at = 0;
    for (const gap of this.gaps) {
      const number = ip(gap.lo);
      while (at < this.all.length && this.all[at].number < number) merged.push(this.all[at++]);
      merged.push({ number, gap });
    }
    return merged.concat(this.all.slice(at));
  }
}
