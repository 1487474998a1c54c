// The map: one canvas, whatever the size of the pool. A cell is an address, or a block of addresses in a large part.

import { $, count, dotted, el, ip, Soon } from "./dom.js";
import { around, BLOCKS, farther, Grid, MOST, nearer, TAKEN } from "./grid.js";

const STATES = [...TAKEN, "free", "gateway", "dynamic", "excluded"];
const NAMES = { used_by_others: "used by others", excluded: "not of the pool", renumbering: "being renumbered to" };

export class PoolMap {
  /** on: why(address), name(address) of a loaded allocation, failed(error). */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.canvas = $("map-canvas");
    this.pool = null;
    this.grid = null;
    this.cursor = -1;
    this.refresh = new Soon(() => this.load(), 500);
    this.listen();
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointermove", (event) => this.point(this.grid?.at(event.offsetX, event.offsetY) ?? -1));
    canvas.addEventListener("click", (event) => {
      this.point(this.grid?.at(event.offsetX, event.offsetY) ?? -1);
      this.open();
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
        event.preventDefault();
        if (event.deltaY < 0) this.zoomIn();
        else this.zoomOut();
      },
      { passive: false },
    );
    $("map-in").addEventListener("click", () => this.zoomIn());
    $("map-out").addEventListener("click", () => this.zoomOut());
    $("map-all").addEventListener("click", () => this.show(this.whole));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.resized()).observe(canvas.parentElement);
  }

  /** bounds: the lowest and the highest address of the pool's map. */
  async choose(pool, bounds) {
    this.pool = pool;
    this.grid = null;
    [this.lowest, this.highest] = bounds.map(ip);
    this.part = this.whole = around(this.lowest, this.highest);
    this.cursor = -1;
    await this.refresh.now();
  }

  async load() {
    const pool = this.pool;
    if (!pool) return;
    const path = `/v1/pools/${encodeURIComponent(pool)}`;
    try {
      const part = this.part;
      const grid = new Grid(part, this.width());
      const first = Math.max(this.lowest, part.base);
      const last = Math.min(this.highest, part.base + part.size - 1);
      if (part.size <= MOST) {
        let next = dotted(first);
        while (next) {
          const page = await this.api.get(`${path}/map`, { first: next, last: dotted(last), limit: 20000 });
          grid.takeRuns(page.runs);
          next = page.next;
        }
      } else {
        // Blocks are aligned, so that each of them is a cell.
        const found = await this.api.get(`${path}/blocks`, { first: dotted(first), last: dotted(last), most: BLOCKS });
        grid.takeBlocks(split(found.blocks, grid));
      }
      if (pool !== this.pool || part !== this.part) return;
      this.take(grid);
    } catch (error) {
      this.on.failed(error);
    }
  }

  take(grid) {
    if (this.cursor >= grid.cells) this.cursor = -1;
    this.grid = grid;
    const here = this.part;
    $("map-part").textContent = `${dotted(Math.max(here.base, this.lowest))} – ${dotted(Math.min(here.base + here.size - 1, this.highest))}`;
    $("map-in").disabled = here.size <= 16;
    $("map-out").disabled = $("map-all").disabled = here.size >= this.whole.size;
    $("map-legend").replaceChildren(
      ...STATES.filter((state) => grid.counts.get(state)).map((state) =>
        el("li", {}, el("span", { className: "swatch", "data-state": state }), `${NAMES[state] ?? state} ${count(grid.counts.get(state))}`),
      ),
    );
    this.canvas.dataset.cells = String(grid.cells);
    this.canvas.dataset.pool = this.pool;
    this.tell();
    this.draw();
  }

  width() {
    return Math.max(200, this.canvas.parentElement.clientWidth);
  }

  resized() {
    if (this.grid && Math.abs(this.width() - this.drawnWidth) > 8) this.refresh.ask();
  }

  draw() {
    const grid = this.grid;
    if (!grid) return;
    const style = getComputedStyle(this.canvas);
    const colours = Object.fromEntries(STATES.map((state) => [state, rgb(style.getPropertyValue(`--map-${state}`))]));
    const image = new ImageData(grid.columns, grid.rows);
    const pixels = new DataView(image.data.buffer);
    const whole = Object.fromEntries(STATES.map((state) => [state, pixel(colours[state], state)]));
    for (let cell = 0; cell < grid.cells; cell++) {
      const state = grid.states[cell];
      const isWhole = grid.step === 1 || grid.fill[cell] >= 1 || !TAKEN.includes(state);
      pixels.setUint32(cell * 4, isWhole ? whole[state] : pixel(mixed(colours, state, grid.fill[cell]), state));
    }
    const small = new OffscreenCanvas(grid.columns, grid.rows);
    small.getContext("2d").putImageData(image, 0, 0);
    this.small = small;
    this.line = style.getPropertyValue("--text");
    this.ground = style.getPropertyValue("--ground");
    this.paint();
    this.canvas.dataset.drawn = String(Number(this.canvas.dataset.drawn ?? 0) + 1);
  }

  paint() {
    const { grid, canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [grid.columns * grid.edge, grid.rows * grid.edge];
    this.drawnWidth = this.width();
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.small, 0, 0, width, height);
    if (grid.edge >= 5) this.rule(pen, width, height);
    if (this.cursor >= 0) {
      const edge = Math.max(6, grid.edge);
      pen.strokeStyle = this.line;
      pen.lineWidth = 2;
      const x = (this.cursor % grid.columns) * grid.edge;
      const y = Math.floor(this.cursor / grid.columns) * grid.edge;
      pen.strokeRect(x + grid.edge / 2 - edge / 2, y + grid.edge / 2 - edge / 2, edge, edge);
    }
  }

  /** Lines between the cells, where there is room for them. */
  rule(pen, width, height) {
    pen.fillStyle = this.ground;
    for (let column = 1; column < this.grid.columns; column++) pen.fillRect(column * this.grid.edge - 0.5, 0, 1, height);
    for (let row = 1; row < this.grid.rows; row++) pen.fillRect(0, row * this.grid.edge - 0.5, width, 1);
  }

  point(cell) {
    if (!this.grid || cell < 0 || cell === this.cursor) return;
    this.cursor = cell;
    this.tell();
    this.paint();
  }

  /** Says what is at the cursor, by what is loaded by now. */
  tell() {
    if (!this.grid || this.cursor < 0) return;
    const name = this.grid.step === 1 ? this.on.name(dotted(this.grid.address(this.cursor))) : "";
    $("map-here").textContent = this.grid.said(this.cursor) + (name ? `: ${name}` : "");
  }

  open() {
    if (!this.grid || this.cursor < 0) return;
    if (this.grid.step === 1) this.on.why(dotted(this.grid.address(this.cursor)));
    else this.zoomIn();
  }

  key(event) {
    if (!this.grid || event.ctrlKey || event.altKey || event.metaKey) return;
    const { columns, cells } = this.grid;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key in steps) this.point(Math.min(cells - 1, Math.max(0, Math.max(0, this.cursor) + steps[event.key])));
    else if (event.key === "Home") this.point(0);
    else if (event.key === "End") this.point(cells - 1);
    else if (event.key === "Enter" || event.key === " ") this.open();
    else if (event.key === "+") this.zoomIn();
    else if (event.key === "-" || event.key === "−") this.zoomOut();
    else if (event.key === "0") this.show(this.whole);
    else return;
    event.preventDefault();
  }

  zoomIn() {
    if (!this.grid) return;
    const at = this.cursor >= 0 ? this.grid.address(this.cursor) : Math.max(this.part.base, this.lowest);
    this.show(nearer(this.part, at));
  }

  zoomOut() {
    if (this.grid) this.show(farther(this.part, this.whole));
  }

  show(part) {
    if (!part || (part.base === this.part.base && part.size === this.part.size)) return;
    this.part = part;
    this.cursor = -1;
    $("map-here").textContent = "";
    this.refresh.now();
  }
}

/** Blocks of the service as cells of the grid; its blocks may be smaller, where the part is not aligned. */
function split(blocks, grid) {
  const cells = new Map();
  for (const one of blocks) {
    const cell = Math.floor((ip(one.first) - grid.part.base) / grid.step);
    const known = cells.get(cell);
    if (!known) cells.set(cell, { first: one.first, counts: { ...one.counts } });
    else for (const [name, number] of Object.entries(one.counts)) known.counts[name] = (known.counts[name] ?? 0) + number;
  }
  return cells.values();
}

function rgb(text) {
  const value = parseInt(text.trim().slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** The colour of a block: the more of it is taken, the more it has the colour of what takes it. */
function mixed(colours, state, fill) {
  const part = 0.25 + 0.75 * Math.sqrt(fill);
  return colours.free.map((value, index) => Math.round(value + (colours[state][index] - value) * part));
}

/** A colour as a canvas has it; what is not of the pool is transparent. */
const pixel = ([r, g, b], state) => ((r << 24) | (g << 16) | (b << 8) | (state === "excluded" ? 0 : 255)) >>> 0;
