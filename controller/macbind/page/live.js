// The stream of events. It goes on after the last one that came, so a restart of the service loses nothing.

const SILENT_MS = 13000; // the service says something every 5 s
const HIDDEN_MS = 30000; // a browser has few connections for all its tabs
const PAUSES_MS = [300, 700, 1500, 3000, 5000];

export class Live {
  /** on: change(event), findings(list), anew() when everything must be asked for again, state(name, error). */
  constructor(api, on) {
    this.api = api;
    this.on = on;
    this.last = null;
    this.heard = null;
    this.tries = 0;
    this.abort = null;
    this.hidden = 0;
    document.addEventListener("visibilitychange", () => this.seen());
  }

  seen() {
    clearTimeout(this.hidden);
    if (document.hidden) this.hidden = setTimeout(() => this.abort?.abort(), HIDDEN_MS);
    else this.wake?.();
  }

  /** Begins anew at once, for instance with another token. */
  restart() {
    this.abort?.abort();
    this.tries = 0;
    this.wake?.();
  }

  async run() {
    for (;;) {
      if (document.hidden && this.tries) await this.pause(3600000);
      try {
        await this.follow();
        this.on.state("cut");
      } catch (error) {
        if (error.status === 400 && this.last !== null) {
          this.last = null; // another registry: what was known is no longer true
          continue;
        }
        this.on.state(error.status === 401 || error.status === 403 ? "token" : "cut", error);
      }
      await this.pause(PAUSES_MS[Math.min(this.tries++, PAUSES_MS.length - 1)]);
    }
  }

  pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async follow() {
    const abort = (this.abort = new AbortController());
    let watch = setTimeout(() => abort.abort(), SILENT_MS);
    try {
      const isNew = this.last === null;
      const path = isNew ? "/v1/events" : `/v1/events?after=${this.last}`;
      const answer = await this.api.raw(path, { signal: abort.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      let begun = false;
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(watch);
        watch = setTimeout(() => abort.abort(), SILENT_MS);
        this.heard = performance.now();
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) this.take(part);
        if (!begun) {
          begun = true;
          this.tries = 0;
          this.on.state("live");
          this.on.anew(isNew);
        }
      }
    } finally {
      clearTimeout(watch);
      abort.abort();
    }
  }

  take(part) {
    let kind = "message";
    let data = "";
    for (const line of part.split("\n")) {
      if (line.startsWith("id: ")) this.last = Number(line.slice(4));
      else if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (kind === "change") this.on.change(JSON.parse(data));
    else if (kind === "findings") this.on.findings(JSON.parse(data).findings);
    else if (kind === "gap") this.on.anew(true);
  }
}
