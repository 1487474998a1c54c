// Releasing several allocations: each by its name and generation, so that nobody loses an address that was not shown.

import { $, count, el, plural } from "./dom.js";

const AT_ONCE = 4;
const LISTED = 12;

export class Release {
  /** done: called when some have been released. */
  constructor(api, done) {
    this.api = api;
    this.done = done;
    this.wanted = [];
    $("release-yes").addEventListener("click", () => this.run());
    $("release-no").addEventListener("click", () => $("release").close());
  }

  ask(wanted) {
    this.wanted = wanted;
    $("release-what").textContent = `${plural(wanted.length, "allocation")} will be released. Machines that still run keep using their addresses.`;
    const names = wanted.slice(0, LISTED).map((one) => el("li", {}, `${one.name} (${one.address})`));
    if (wanted.length > LISTED) names.push(el("li", { className: "quiet" }, `and ${count(wanted.length - LISTED)} more`));
    $("release-names").replaceChildren(...names);
    $("release-refused").replaceChildren();
    $("release-done").textContent = "";
    $("release-yes").hidden = false;
    $("release-yes").disabled = false;
    $("release").showModal();
    $("release-no").focus();
  }

  async run() {
    $("release-yes").disabled = true;
    const left = this.wanted.slice();
    let gone = 0;
    const refused = [];
    const worker = async () => {
      for (let one = left.shift(); one; one = left.shift()) {
        try {
          await this.api.post("/v1/release", { name: one.name, generation: one.generation, reason: "released on the page" });
          gone += 1;
        } catch (error) {
          refused.push(`${one.name}: ${error.message}`);
          if (error.status === 401 || error.status === 403) left.length = 0; // so would the others be
        }
        $("release-done").textContent = `${count(gone)} of ${count(this.wanted.length)} released.`;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    $("release-done").textContent = `${count(gone)} of ${count(this.wanted.length)} released.`;
    $("release-refused").replaceChildren(...refused.slice(0, LISTED).map((text) => el("li", { className: "trouble" }, text)));
    $("release-yes").hidden = true;
    this.done();
  }
}
