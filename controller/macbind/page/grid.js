// The arithmetic of the map: a part of a pool as a grid of cells, each an address or a block of them. Nothing is drawn.

import { dotted, ip } from "./dom.js";

export const MOST = 65536; // addresses that have a cell each
export const BLOCKS = 4096;
export const TAKEN = ["allocated", "reserved", "renumbering", "resting", "used_by_others"];

/** The aligned part of 2^k addresses that holds both ends. */
export function around(first, last) {
  let size = 16;
  while (Math.floor(first / size) !== Math.floor(last / size)) size *= 2;
  return { base: Math.floor(first / size) * size, size };
}

/** A sixteenth of a part, around an address; or sixteen times as much, but not more than the whole. */
export function nearer(part, at) {
  const size = Math.max(16, part.size / 16);
  return { base: Math.floor(at / size) * size, size };
}

export function farther(part, whole) {
  const size = part.size * 16;
  return size >= whole.size ? whole : { base: Math.floor(part.base / size) * size, size };
}

export class Grid {
  /** Columns are as many as fit: four times as many as rows where there is room. */
  constructor(part, width) {
    this.part = part;
    this.step = part.size <= MOST ? 1 : part.size / BLOCKS;
    this.cells = part.size / this.step;
    const bits = Math.log2(this.cells);
    this.columns = 2 ** (bits % 2 ? (bits + 1) / 2 : bits / 2 + 1);
    while (this.columns > 16 && width / this.columns < 1.4) this.columns /= 2;
    this.rows = this.cells / this.columns;
    this.edge = Math.min(22, width / this.columns);
    this.states = new Array(this.cells).fill("excluded"); // of a block: what most of it is taken by
    this.fill = new Float32Array(this.cells); // which part of a block is taken
    this.counts = new Map();
  }

  add(state, number) {
    this.counts.set(state, (this.counts.get(state) ?? 0) + number);
  }

  takeRuns(runs) {
    for (const one of runs) {
      const first = ip(one.first) - this.part.base;
      const last = ip(one.last) - this.part.base;
      this.add(one.state, last - first + 1);
      this.states.fill(one.state, first, last + 1);
      if (TAKEN.includes(one.state)) this.fill.fill(1, first, last + 1);
    }
  }

  takeBlocks(blocks) {
    for (const one of blocks) {
      const cell = Math.floor((ip(one.first) - this.part.base) / this.step);
      let taken = 0;
      let most = 0;
      let state = "excluded";
      for (const [name, number] of Object.entries(one.counts)) {
        this.add(name, number);
        if (!TAKEN.includes(name)) continue;
        taken += number;
        if (number > most) [most, state] = [number, name];
      }
      const own = taken + (one.counts.free ?? 0);
      this.fill[cell] = own ? taken / own : 0;
      this.states[cell] = taken ? state : own ? "free" : (Object.keys(one.counts).find((name) => name !== "excluded") ?? "excluded");
    }
  }

  /** The cell under a point, in CSS pixels; -1 beside the grid. */
  at(x, y) {
    const column = Math.floor(x / this.edge);
    const row = Math.floor(y / this.edge);
    if (column < 0 || row < 0 || column >= this.columns || row >= this.rows) return -1;
    return row * this.columns + column;
  }

  address(cell) {
    return this.part.base + cell * this.step;
  }

  /** A cell in words. */
  said(cell) {
    const first = this.address(cell);
    const state = this.states[cell].replaceAll("_", " ");
    if (this.step === 1) return `${dotted(first)} ${state === "excluded" ? "not of the pool" : state}`;
    const range = `${dotted(first)} – ${dotted(first + this.step - 1)}`;
    if (["excluded", "gateway", "dynamic"].includes(state)) return `${range}: not of the pool`;
    const part = this.fill[cell];
    return `${range}: ${part > 0 && part < 0.01 ? "less than 1" : Math.round(part * 100)} % taken`;
  }
}
