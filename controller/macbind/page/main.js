// The page: asks for everything once, then follows the events, and asks again only for what has changed.

import { Api, Refused, Unreachable } from "./api.js";
import { $, Soon, span } from "./dom.js";
import { showFindings } from "./findings.js";
import { Live } from "./live.js";
import { PoolMap } from "./map.js";
import { showNumbers, showPools } from "./pools.js";
import { Release } from "./release.js";
import { Table } from "./table.js";
import { Why } from "./why.js";

const SAID = { connecting: "connecting …", live: "live", cut: "not live", token: "a token is needed" };

const api = new Api();
const known = { about: null, pool: null };
let isLive = false;

const why = new Why(api);
const table = new Table(api, {
  why: ask,
  release: (list) => release.ask(list),
  failed,
  may: () => known.about?.may === "write",
  shown: () => map.tell(),
});
const map = new PoolMap(api, { why: ask, name: (address) => table.name(address), failed });
const release = new Release(api, () => {
  table.chosen.clear();
  table.reload.ask();
  map.refresh.ask();
});

function ask(what) {
  return why.show(what);
}

function failed(error) {
  if (error instanceof Unreachable) return; // the stream says so
  if (!(error instanceof Refused)) throw error;
  trouble(error.message);
  if (error.status === 401) askForToken();
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

const numbers = new Soon(async () => {
  try {
    known.about = await api.get("/v1/page");
  } catch (error) {
    failed(error);
    return;
  }
  trouble("");
  const { status, trends } = known.about;
  $("version").textContent = status.version;
  $("token-open").textContent = known.about.token ? `Token ${known.about.token} (${known.about.may})` : "Token …";
  showFindings(status.findings);
  showNumbers(status);
  if (!status.pools.some((one) => one.pool === known.pool)) choose(status.pools[0]?.pool ?? null);
  showPools(status.pools, trends, known.pool, choose);
  table.buttons();
}, 1000);

function choose(pool) {
  if (pool === known.pool) return;
  known.pool = pool;
  for (const one of document.querySelectorAll(".pool-name")) one.textContent = pool ?? "";
  showPools(known.about.status.pools, known.about.trends, pool, choose);
  table.choose(pool, pool ? map.choose(pool, known.about.bounds[pool]) : null);
}

const live = new Live(api, {
  change(event) {
    numbers.ask();
    if (event.pool === known.pool) {
      map.refresh.ask();
      table.note(event);
    }
  },
  findings: showFindings,
  anew(isNew) {
    if (!known.about && numbers.runs) return; // it is being asked for
    numbers.ask();
    if (isNew && known.pool) table.reload.ask();
    if (known.pool) map.refresh.ask();
  },
  state(name, error) {
    isLive = name === "live";
    const place = $("live");
    place.dataset.state = name;
    place.textContent = SAID[name];
    if (name === "token") {
      trouble(error.message);
      askForToken();
    }
    age();
  },
});

function age() {
  const seconds = live.heard === null ? null : (performance.now() - live.heard) / 1000;
  $("age").textContent = isLive || seconds === null ? "" : `what you see is ${span(Math.max(1, seconds))} old`;
}

function askForToken() {
  const dialog = $("token");
  if (dialog.open) return;
  $("token-is").textContent = known.about?.token ? `This is ${known.about.token}, which may ${known.about.may}.` : "There is none in this tab.";
  $("token-secret").value = "";
  $("token-refused").textContent = "";
  dialog.showModal();
}

async function useToken(secret) {
  const before = api.token;
  api.token = secret;
  try {
    known.about = await api.get("/v1/page");
  } catch (error) {
    api.token = before;
    $("token-refused").textContent = error.message;
    return;
  }
  $("token").close();
  trouble("");
  live.restart();
  numbers.ask();
  map.refresh.ask();
  table.reload.ask();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token-secret").value.trim());
});
$("token-forget").addEventListener("click", () => useToken(""));
$("token-close").addEventListener("click", () => $("token").close());
$("token-open").addEventListener("click", askForToken);
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const what = $("ask-what").value.trim();
  if (what) ask(what);
});

setInterval(age, 1000);
setInterval(() => {
  if (!isLive || document.hidden) return;
  numbers.ask();
  table.seen();
}, 5000);
numbers.ask();
live.run();
