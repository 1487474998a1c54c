// The service: questions, releases, and the token, which lives in this tab only.

const KEY = "macbind-token";

export class Refused extends Error {
  constructor(status, error) {
    super(`${error.message} ${error.hint ?? ""}`.trim());
    this.status = status;
    this.code = error.code;
  }
}

/** There is no service, or it ended in the middle of an answer. */
export class Unreachable extends Error {}

export class Api {
  get token() {
    return sessionStorage.getItem(KEY) ?? "";
  }

  set token(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  }

  /** An answer, whatever it is; throws Refused for an error of the service, Unreachable if there is none. */
  async raw(path, how = {}) {
    const headers = { ...how.headers };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let answer;
    try {
      answer = await fetch(path, { ...how, headers, cache: "no-store", credentials: "omit" });
    } catch (error) {
      throw new Unreachable("The service cannot be reached.", { cause: error });
    }
    if (answer.ok) return answer;
    let error;
    try {
      error = (await answer.json()).error;
    } catch {
      error = { code: "unknown", message: `The service answered ${answer.status}.` };
    }
    throw new Refused(answer.status, error);
  }

  async get(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const text = new URLSearchParams(given).toString();
    return read(await this.raw(text ? `${path}?${text}` : path));
  }

  async post(path, body) {
    const headers = { "Content-Type": "application/json" };
    return read(await this.raw(path, { method: "POST", headers, body: JSON.stringify(body) }));
  }
}

async function read(answer) {
  try {
    return await answer.json();
  } catch (error) {
    throw new Unreachable("The answer of the service broke off.", { cause: error });
  }
}
