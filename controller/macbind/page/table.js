// The table of allocations: only the rows that are seen have elements, however many there are.

import { $, count, dotted, el, ip, plural, Soon, when } from "./dom.js";
import { MOST, Rows } from "./rows.js";

const FIRST = 200;
const PAGE = 10000;
const GAP_PAGE = 1000;
const GAP_PAGES = 20;
const FEW = 200; // so many changed rows are asked for by their addresses
const COLUMNS = 9;
const AHEAD = 12; // rows above and below what is seen

const ROWS = "/v1/page/rows";

export class Table {
  /** on: why(address), release(list), failed(error), may() whether releasing is allowed, shown() when rows are. */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.pool = null;
    this.drawn = null;
    this.rows = new Rows();
    this.listed = [];
    this.chosen = new Map(); // name → allocation, as it was shown
    this.changed = new Set();
    this.elements = new Map();
    this.painted = [];
    this.body = $("table").tBodies[0];
    this.reload = new Soon(() => this.load(), 3000);
    this.update = new Soon(() => this.take(), 300);
    this.settle = new Soon(() => this.unsettled(), 1500);
    this.listen();
  }

  listen() {
    $("table-search").addEventListener("input", () => this.list());
    $("table-gaps").addEventListener("change", () => this.reload.now());
    $("table-all").addEventListener("change", (event) => this.chooseAll(event.target.checked));
    $("table-release").addEventListener("click", () => this.on.release([...this.chosen.values()]));
    $("table-scroll").addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.paint()).observe($("table-scroll"));
  }

  /** drawn: is awaited before more than the first rows are asked for, so that they do not hold up the map. */
  async choose(pool, drawn) {
    this.pool = pool;
    this.drawn = drawn;
    this.changed.clear();
    this.rows = new Rows();
    this.chosen.clear();
    $("table-scroll").scrollTop = 0;
    await this.reload.now();
  }

  async load() {
    const pool = this.pool;
    if (!pool) return;
    const fresh = new Rows();
    $("table-count").dataset.whole = "false";
    const isFirst = !this.rows.all.length;
    try {
      let after;
      do {
        const limit = isFirst && !fresh.all.length ? FIRST : PAGE;
        const page = await this.api.get(ROWS, { pool, after, limit });
        if (pool !== this.pool) return;
        fresh.add(page.rows);
        after = page.next;
        if (limit === FIRST && after) {
          this.show(fresh); // what is there can be used meanwhile
          await this.drawn;
          if (pool !== this.pool) return;
        }
      } while (after && fresh.all.length < MOST);
      fresh.isCut = Boolean(after);
      if ($("table-gaps").checked) await this.loadGaps(pool, fresh);
      if (pool === this.pool) this.show(fresh);
      $("table-count").dataset.whole = "true";
      this.settle.ask();
      if (this.changed.size) this.update.ask();
    } catch (error) {
      this.on.failed(error);
    }
  }

  async loadGaps(pool, fresh) {
    let after;
    for (let page = 0; page < GAP_PAGES; page++) {
      const found = await this.api.get(`/v1/pools/${encodeURIComponent(pool)}/free`, { after, limit: GAP_PAGE });
      fresh.gaps.push(...found.ranges);
      after = found.next;
      if (!after) return;
    }
  }

  show(rows) {
    this.rows = rows;
    for (const [name, one] of this.chosen) {
      const now = rows.at(one.address);
      if (now?.name !== name || now.generation !== one.generation || now.isReleased) this.chosen.delete(name);
    }
    this.list();
    this.on.shown();
  }

  /** An event: an address of the pool has changed. */
  note(change) {
    if (change.pool !== this.pool || !change.address) return;
    this.changed.add(ip(change.address));
    this.update.ask();
  }

  async take() {
    if (this.reload.runs) return null; // it is looked at afterwards: rows come in their order now
    const changed = [...this.changed];
    this.changed.clear();
    if (!changed.length) return null;
    if (changed.length > FEW || $("table-gaps").checked) return this.reload.ask();
    await this.ask(changed);
    return this.settle.ask();
  }

  async unsettled() {
    const open = this.rows.unsettled();
    if (!open.length || this.reload.runs) return;
    await this.ask(open);
    this.settle.ask();
  }

  /** Asks again for the rows that are seen: which domain uses an address is no event. */
  async seen() {
    const shown = this.listed.slice(this.from, this.to).filter((row) => !row.gap);
    if (!shown.length || document.hidden || this.reload.runs) return;
    await this.ask(shown.map((row) => row.number));
  }

  /** What these addresses are now. */
  async ask(numbers) {
    const rows = this.rows;
    const some = numbers.slice(0, FEW);
    try {
      const page = await this.api.get(ROWS, { pool: this.pool, addresses: some.map(dotted).join(",") });
      if (rows !== this.rows) return; // it was loaded anew
      rows.put(some, page.rows);
      this.show(rows);
    } catch (error) {
      this.on.failed(error);
    }
  }

  /** The name that holds an address, if it is loaded. */
  name(address) {
    return this.rows.at(address)?.name ?? "";
  }

  list() {
    const search = $("table-search").value;
    this.listed = this.rows.listed(search, $("table-gaps").checked);
    const all = this.rows.all.length;
    const found = search.trim() ? this.listed.length : all;
    const cut = this.rows.isCut ? `. The first ${count(MOST)} are listed; ask above for others.` : "";
    $("table-count").textContent = (search.trim() ? `${count(found)} of ${plural(all, "address", "addresses")}` : plural(all, "address", "addresses")) + cut;
    this.paint(true);
    this.buttons();
  }

  buttons() {
    const button = $("table-release");
    const number = this.chosen.size;
    button.textContent = number ? `Release ${count(number)} …` : "Release …";
    button.disabled = !number || !this.on.may();
    button.title = this.on.may() ? "" : "A token that may write is needed.";
    const all = $("table-all");
    all.checked = number > 0 && this.listed.every((row) => !isChoosable(row) || this.chosen.has(row.name));
    all.indeterminate = !all.checked && number > 0;
  }

  chooseAll(isOn) {
    for (const row of this.listed) {
      if (!isChoosable(row)) continue;
      if (isOn) this.chosen.set(row.name, row);
      else this.chosen.delete(row.name);
    }
    this.paint(true);
    this.buttons();
  }

  /** Makes the elements of the rows that are seen; those that stay keep theirs, and the focus. */
  paint(isChanged = false) {
    const scroll = $("table-scroll");
    const height = this.height ?? 30;
    const from = Math.max(0, Math.floor(scroll.scrollTop / height) - AHEAD);
    const to = Math.min(this.listed.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / height) + AHEAD);
    if (!isChanged && from === this.from && to === this.to) return;
    [this.from, this.to] = [from, to];
    const focused = document.activeElement?.closest?.("#table tbody tr")?.dataset.key;
    const part = document.activeElement?.tagName;
    const before = this.elements;
    this.elements = new Map();
    const rows = [];
    for (const row of this.listed.slice(from, to)) {
      const key = keyOf(row);
      const state = stateOf(row, this.chosen);
      let made = before.get(key);
      if (made?.dataset.as !== state) {
        made = row.gap ? gapRow(row.gap) : this.row(row);
        made.dataset.key = key;
        made.dataset.as = state;
      }
      this.elements.set(key, made);
      rows.push(made);
    }
    rows.forEach((made, index) => made.setAttribute("aria-rowindex", String(from + index + 2)));
    $("table").setAttribute("aria-rowcount", String(this.listed.length + 1));
    const [above, below] = [from * height, (this.listed.length - to) * height];
    const isSame = this.above === above && this.below === below && rows.length === this.painted.length;
    if (isSame && rows.every((made, index) => made === this.painted[index])) return; // a click may be under way
    [this.above, this.below, this.painted] = [above, below, rows];
    this.body.replaceChildren(spacer(above), ...rows, spacer(below));
    if (focused) this.elements.get(focused)?.querySelector(part === "INPUT" ? "input" : "button")?.focus({ preventScroll: true });
    const real = rows[0]?.getBoundingClientRect().height;
    if (real && Math.abs(real - height) > 0.5) {
      this.height = real;
      this.paint(true);
    }
  }

  row(one) {
    const pick = el("input", { type: "checkbox", "aria-label": `Choose ${one.name}`, checked: this.chosen.has(one.name) });
    pick.disabled = !isChoosable(one);
    pick.addEventListener("change", () => {
      if (pick.checked) this.chosen.set(one.name, one);
      else this.chosen.delete(one.name);
      pick.closest("tr").dataset.as = stateOf(one, this.chosen);
      this.buttons();
    });
    const why = el("button", { type: "button", className: "link", onclick: () => this.on.why(one.address) }, one.address);
    return el(
      "tr",
      {},
      el("td", { className: "pick" }, pick),
      el("td", {}, why),
      el("td", { title: one.name }, one.name),
      el("td", { className: "wide mono" }, one.mac),
      el("td", { className: "wide", title: one.group ?? "" }, one.group ?? ""),
      el("td", { className: "wide", title: one.labelText }, one.labelText),
      el("td", {}, saidState(one)),
      el("td", { className: "wide", title: one.domain ?? "" }, one.domain ?? ""),
      el("td", { className: "wide", title: when(one.createdAt * 1000) }, when(one.createdAt * 1000).slice(0, -3)),
    );
  }
}

const isChoosable = (row) => !row.gap && !row.isReserved && !row.isReleased && !row.renumbersFrom;

const keyOf = (row) => (row.gap ? `gap ${row.number}` : `${row.number}`);

const stateOf = (row, chosen) =>
  row.gap
    ? `${row.gap.lo} ${row.gap.hi}`
    : `${row.generation} ${saidState(row)} ${row.domain} ${row.name} ${row.labelText} ${chosen.has(row.name)}`;

function saidState(one) {
  const words = [one.state];
  if (one.isReserved) words.push("reserved");
  if (one.renumbersFrom) words.push(`renumbers from ${dotted(one.renumbersFrom)}`);
  if (one.isDoubted) words.push("domain missing");
  return words.join(", ");
}

function gapRow(gap) {
  const range = gap.lo === gap.hi ? gap.lo : `${gap.lo} – ${gap.hi}`;
  return el("tr", { className: "gap" }, el("td", { className: "pick" }), el("td", { colSpan: COLUMNS - 1 }, `${range}: ${count(gap.size)} free`));
}

function spacer(height) {
  const cell = el("td", { colSpan: COLUMNS });
  cell.style.height = `${height}px`;
  const row = el("tr", { className: "spacer", "aria-hidden": "true" }, cell);
  row.hidden = height <= 0;
  return row;
}
