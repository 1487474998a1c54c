// What an admin should look at, with what mends it.

import { $, el, plural } from "./dom.js";

const WORST = ["critical", "error", "warning", "notice", "info"];

const rank = (one) => (WORST.indexOf(one.severity) + WORST.length + 1) % (WORST.length + 1);

export function showFindings(findings) {
  const place = $("findings");
  document.title = findings.length ? `(${findings.length}) macbind` : "macbind";
  if (!findings.length) {
    place.replaceChildren(el("p", { className: "good" }, "All is well."));
    return;
  }
  const sorted = findings.slice().sort((a, b) => rank(a) - rank(b));
  const list = el("ul", { "aria-label": plural(findings.length, "finding") }, ...sorted.map(item));
  place.replaceChildren(list);
}

function item(one) {
  const made = el(
    "li",
    { className: "finding", "data-severity": one.severity ?? "warning" },
    el("p", {}, one.severity ? el("strong", {}, `${one.severity}: `) : null, one.message),
    one.hint ? el("p", { className: "hint" }, one.hint) : null,
    el("p", { className: "code" }, one.code, one.since ? `, since ${new Date(one.since).toLocaleString("en-GB")}` : ""),
  );
  for (const command of one.commands ?? []) {
    const text = typeof command === "string" ? command : (command.command ?? command.text ?? JSON.stringify(command));
    const copy = el("button", { type: "button", "aria-label": `Copy ${text}` }, "Copy");
    copy.addEventListener("click", async () => {
      await navigator.clipboard?.writeText(text);
      copy.textContent = "Copied";
    });
    made.append(el("div", { className: "command" }, el("code", {}, text), copy));
  }
  return made;
}
