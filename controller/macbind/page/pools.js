// Pools as cards, and the numbers of the service.

import { $, count, el, span, svg } from "./dom.js";

const LATELY = 15; // minutes
const FAR_S = 90 * 86400; // what is farther away than a season is not foreseen

/** How full each pool is, how it has been for an hour, and how long it lasts. */
export function showPools(pools, trends, chosen, choose) {
  const place = $("pools");
  const had = place.contains(document.activeElement) ? document.activeElement.dataset.pool : null; // the map is a pool's, too
  const known = new Map(trends.map((one) => [one.pool, one]));
  place.replaceChildren(...pools.map((one) => card(one, known.get(one.pool), one.pool === chosen, choose)));
  if (had) place.querySelector(`button[data-pool="${CSS.escape(had)}"]`)?.focus({ preventScroll: true });
}

function card(one, hour, isChosen, choose) {
  const taken = one.size - one.free;
  const part = one.size ? taken / one.size : 1;
  const percent = part > 0 && part < 0.01 ? "< 1" : String(Math.floor(part * 100));
  const bar = el("div", { className: "bar", role: "img", "aria-label": `${percent} % taken` }, el("div", {}));
  bar.firstChild.style.width = `${part * 100}%`;
  bar.dataset.level = part >= 0.9 ? "high" : part >= 0.8 ? "middle" : "low";
  const button = el(
    "button",
    { type: "button", "aria-pressed": String(isChosen), "data-pool": one.pool, onclick: () => choose(one.pool) },
    one.pool,
  );
  const more = [
    [one.allocated - one.pinned, "allocated"],
    [one.pinned, "reserved"],
    [one.releasing, "resting"],
    [one.used_by_others, "used by others"],
  ].filter(([value]) => value > 0);
  return el(
    "li",
    { className: "card", "data-chosen": String(isChosen) },
    el("h3", {}, button),
    el("p", {}, el("strong", {}, `${percent} % taken`), `, ${count(one.free)} free of ${count(one.size)}`),
    bar,
    el("p", { className: "quiet" }, more.map(([value, word]) => `${count(value)} ${word}`).join(", ") || "empty"),
    hour ? trend(hour, one.size) : null,
    hour ? el("p", { className: "quiet" }, outlook(hour, one)) : null,
  );
}

function outlook(hour, one) {
  const more = hour.held.at(-1) - hour.held.at(-1 - LATELY);
  const lately = `${more < 0 ? "−" : "+"}${count(Math.abs(more))} in ${LATELY} minutes`;
  if (!one.free) return `${lately}, no address is left`;
  const isSoon = hour.exhausted_in_s !== null && hour.exhausted_in_s < FAR_S;
  return isSoon ? `${lately}, full in ${span(hour.exhausted_in_s)}` : lately;
}

/** The last hour as a line; it uses the whole height between its lowest and its highest value. */
function trend(hour, size) {
  const low = Math.min(...hour.held);
  const high = Math.max(...hour.held, low + Math.max(1, size / 1000));
  const points = hour.held.map(
    (value, index) => `${((index / (hour.held.length - 1)) * 118 + 1).toFixed(1)},${(26 - ((value - low) / (high - low)) * 24).toFixed(1)}`,
  );
  const label = `Allocated addresses in the last hour: from ${count(hour.held[0])} to ${count(hour.held.at(-1))}`;
  return svg(
    "svg",
    { class: "trend", viewBox: "0 0 120 28", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("polyline", { points: points.join(" "), "vector-effect": "non-scaling-stroke" }),
  );
}

/** All controllers, where there is more than one. */
const others = (controllers) => (controllers.length > 1 ? controllers : []);

/** The service in numbers; a token of pools sees no rates, which are of all pools. */
export function showNumbers({ rates, dhcpds, hypervisors, controllers }) {
  const number = (value) => (value === undefined ? "–" : count(value));
  const time = (value) => (value === null || value === undefined ? "–" : span(value));
  const facts = [
    ["Allocated, last minute", number(rates?.allocations_per_minute)],
    ["Released, last minute", number(rates?.releases_per_minute)],
    ["Destroy to free, p50", time(rates?.destroy_to_free_p50_s)],
    ["Destroy to free, p99", time(rates?.destroy_to_free_p99_s)],
    ["Waiting callers", number(rates?.waiting)],
    ...dhcpds.map((one) => [`dhcpd ${one.name}`, one.backlog ? `${one.state}, ${count(one.backlog)} to do` : one.state]),
    ...hypervisors.map((one) => [`hypervisor ${one.name}`, one.connected ? `${count(one.domains)} domains` : "not connected"]),
    ...others(controllers).map((one) => [`controller ${one.host}`, one.is_alive ? one.leads.map((lead) => lead.dhcpd).join(", ") || "stands by" : "silent"]),
  ];
  $("numbers").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
