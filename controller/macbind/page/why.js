// Why an address, MAC, name or domain is as it is, and what happened to it.

import { $, el, when } from "./dom.js";

export class Why {
  constructor(api) {
    this.api = api;
    this.asked = 0;
  }

  async show(what) {
    const asked = ++this.asked;
    $("why-title").textContent = what;
    $("why-body").replaceChildren(el("p", { className: "quiet" }, "…"));
    if (!$("why").open) $("why").showModal();
    let parts;
    try {
      const answers = await this.api.get("/v1/why", { q: what });
      parts = [];
      for (const one of answers) parts.push(...said(one), ...(await this.history(one)));
    } catch (error) {
      parts = [el("p", { className: "trouble", role: "alert" }, error.message)];
    }
    if (asked === this.asked) $("why-body").replaceChildren(...parts);
  }

  async history(one) {
    if (!one.address) return [];
    const found = await this.api.get("/v1/history", { address: one.address, limit: 100 });
    if (!found.length) return [];
    return [
      el("h3", {}, `What happened to ${one.address}`),
      el(
        "table",
        { className: "history" },
        el("thead", {}, el("tr", {}, ...["When", "What", "Name", "By", "Reason"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, ...found.map(line)),
      ),
    ];
  }
}

function said(one) {
  const made = [el("p", { className: "answer", "data-code": one.code }, one.answer)];
  const others = one.reasons.slice(1);
  if (others.length) made.push(el("ul", {}, ...others.map((reason) => el("li", {}, reason.sentence))));
  return made;
}

function line(one) {
  return el(
    "tr",
    {},
    el("td", {}, when(one.at)),
    el("td", {}, one.action),
    el("td", {}, one.name ?? ""),
    el("td", {}, one.actor),
    el("td", {}, one.detail.reason ?? ""),
  );
}
