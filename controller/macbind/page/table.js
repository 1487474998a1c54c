// The table of allocations: only the rows that are seen have elements, however many there are.

import { $, count, dotted, el, ip, plural, Soon, when } from "./dom.js";
import { MOST, Rows } from "./rows.js";

const FIRST = 200;
const PAGE = 1000;
const GAP_PAGES = 20;
const FEW = 60; // so many changed rows are asked for one by one
const SEEN = 200; // so many rows around those that are seen are asked for again
const AHEAD = 12; // rows above and below what is seen

export class Table {
  /** on: why(address), release(list of allocations), failed(error), may() whether releasing is allowed. */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.pool = null;
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

  async choose(pool) {
    this.pool = pool;
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
        const limit = fresh.all.length ? PAGE : FIRST;
        const page = await this.api.get("/v1/allocations", { pool, released: true, after, limit });
        if (pool !== this.pool) return;
        fresh.all.push(...page.allocations.map(Rows.of));
        after = page.next;
        if (isFirst) this.show(fresh); // what is there can be used meanwhile
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
      const found = await this.api.get(`/v1/pools/${encodeURIComponent(pool)}/free`, { after, limit: PAGE });
      fresh.gaps.push(...found.ranges);
      after = found.next;
      if (!after) return;
    }
  }

  show(rows) {
    this.rows = rows;
    for (const [name, one] of this.chosen) {
      const now = rows.at(one.address);
      if (now?.name !== name || now.generation !== one.generation || now.state === "releasing") this.chosen.delete(name);
    }
    this.list();
  }

  /** An event: an address of the pool has changed. */
  note(change) {
    if (change.pool !== this.pool || !change.address) return;
    this.changed.add(change.address);
    this.update.ask();
  }

  async take() {
    if (this.reload.runs) return null; // it is looked at afterwards: rows come in their order now
    const changed = [...this.changed];
    this.changed.clear();
    if (changed.length > FEW || $("table-gaps").checked) return this.reload.ask();
    await this.ask(changed);
    return this.settle.ask();
  }

  async unsettled() {
    const open = this.rows.unsettled();
    if (!open.length || this.reload.runs) return;
    await this.ask(open.slice(0, FEW));
    this.settle.ask();
  }

  /** Asks again for the rows that are seen: which domain uses an address is no event. */
  async seen() {
    const rows = this.rows;
    const shown = this.listed.slice(this.from, this.to).filter((row) => row.one);
    if (!shown.length || document.hidden || this.reload.runs) return;
    const [first, last] = [shown[0].number, shown.at(-1).number];
    const limit = rows.place(last) - rows.place(first) + 1;
    if (limit > SEEN) return; // what a search has found lies far apart
    try {
      const page = await this.api.get("/v1/allocations", { pool: this.pool, released: true, after: dotted(Math.max(0, first - 1)), limit });
      if (rows !== this.rows) return;
      const now = new Map(page.allocations.map((one) => [one.address, one]));
      for (const row of shown) rows.put(row.one.address, now.get(row.one.address) ?? (page.next && row.number > ip(page.next) ? row.one : null));
      this.show(rows);
    } catch (error) {
      this.on.failed(error);
    }
  }

  async ask(addresses) {
    const rows = this.rows;
    const pool = this.pool;
    try {
      for (const address of addresses) {
        const page = await this.api.get("/v1/allocations", { pool, address, released: true });
        if (rows !== this.rows) return; // it was loaded anew
        rows.put(address, page.allocations[0] ?? null);
      }
    } catch (error) {
      this.on.failed(error);
    }
    this.show(rows);
  }

  /** The name that holds an address, if it is loaded. */
  name(address) {
    return this.rows.at(address)?.name ?? "";
  }

  list() {
    const search = $("table-search").value;
    this.listed = this.rows.listed(search, $("table-gaps").checked);
    const all = this.rows.all.length;
    const found = this.listed.filter((row) => row.one).length;
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
    const choosable = this.listed.filter((row) => isChoosable(row.one));
    const all = $("table-all");
    all.checked = choosable.length > 0 && choosable.every((row) => this.chosen.has(row.one.name));
    all.indeterminate = !all.checked && number > 0;
  }

  chooseAll(isOn) {
    for (const row of this.listed) {
      if (!isChoosable(row.one)) continue;
      if (isOn) this.chosen.set(row.one.name, row.one);
      else this.chosen.delete(row.one.name);
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
        made = row.one ? this.row(row.one) : gapRow(row.gap);
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
      pick.closest("tr").dataset.as = stateOf({ one }, this.chosen);
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
      el("td", {}, saidState(one)),
      el("td", { className: "wide", title: one.domain ?? "" }, one.domain ?? ""),
      el("td", { className: "wide" }, when(one.created_at)),
    );
  }
}

const isChoosable = (one) => Boolean(one) && !one.pinned && !one.released_at && !one.renumbers_from;

const keyOf = (row) => (row.one ? `${row.number}` : `gap ${row.number}`);

const stateOf = ({ one, gap }, chosen) =>
  one ? `${one.generation} ${saidState(one)} ${one.domain} ${one.name} ${chosen.has(one.name)}` : `${gap.lo} ${gap.hi}`;

function saidState(one) {
  const words = [one.state];
  if (one.pinned) words.push("reserved");
  if (one.renumbers_from) words.push(`renumbers from ${one.renumbers_from}`);
  if (one.doubted_at) words.push("domain missing");
  return words.join(", ");
}

function gapRow(gap) {
  const range = gap.lo === gap.hi ? gap.lo : `${gap.lo} – ${gap.hi}`;
  return el("tr", { className: "gap" }, el("td", { className: "pick" }), el("td", { colSpan: 7 }, `${range}: ${count(gap.size)} free`));
}

function spacer(height) {
  const cell = el("td", { colSpan: 8 });
  cell.style.height = `${height}px`;
  const row = el("tr", { className: "spacer", "aria-hidden": "true" }, cell);
  row.hidden = height <= 0;
  return row;
}
