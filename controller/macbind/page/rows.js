// The rows of the table: allocations in the order of their addresses, and the free space between them. No element here.

import { ip } from "./dom.js";

export const MOST = 50000;
const plain = (text) => text.toLowerCase().replace(/[:.\-\s]/g, "");

export class Rows {
  constructor() {
    this.all = []; // sorted by number
    this.gaps = [];
  }

  static of(one) {
    const words = [one.address, one.mac, one.name, one.group, one.domain, ...Object.entries(one.labels ?? {}).flat()];
    const text = words.filter(Boolean).join("\n").toLowerCase();
    return { number: ip(one.address), one, text, mac: plain(one.mac) };
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
    const row = this.all[this.place(number)];
    return row?.number === number ? row.one : null;
  }

  /** What an address is now: an allocation, or null. */
  put(address, one) {
    const number = ip(address);
    const at = this.place(number);
    const isThere = this.all[at]?.number === number;
    if (one) this.all.splice(at, isThere ? 1 : 0, Rows.of(one));
    else if (isThere) this.all.splice(at, 1);
  }

  /** Those that are on their way to another state. */
  unsettled() {
    return this.all.filter(({ one }) => one.state !== "bound").map(({ one }) => one.address);
  }

  /** What is listed: all that match, and without a search the gaps between them. */
  listed(search, withGaps) {
    const wanted = search.trim().toLowerCase();
    if (wanted) {
      const hex = /^[0-9a-f:.\-\s]{2,17}$/.test(wanted) ? plain(wanted) : "";
      return this.all.filter((row) => row.text.includes(wanted) || (hex.length >= 4 && row.mac.includes(hex)));
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
