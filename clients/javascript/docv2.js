/**
 * Ask a docv2 server a question of a document, from Node (18 and later) or a browser.
 *
 *     const client = new Client({ apiKey: "sk-…" });
 *     const task = await client.process("lease.pdf", "What is the monthly rent?");
 *     const { content } = await client.wait(task.task_id);
 *
 * Answers are the server's JSON as it is; docv2.d.ts names their fields. All times are in seconds.
 */

/** Seconds that a status request may wait for a change: well below the 60 after which proxies give up by default. */
const LONG_POLL = 30;
/** Least seconds between two status requests, however fast the task changes. */
const POLL_INTERVAL = 0.2;
/** Seconds without an answer after which a request counts as lost; an upload may take as long as it needs. */
const ANSWER_TIMEOUT = 60;
/** Most seconds between two tries: nobody waits longer than that for a server that came back. */
const BACKOFF_CAP = 5;
/** Answers that say `not now`, the server's own or those of a proxy before it. A full disk (507) needs a person. */
const TRY_AGAIN = new Set([429, 502, 503, 504]);

/** Root of everything the client throws on purpose. */
export class ClientError extends Error {
  constructor(message, { status = null, errorType = null, requestId = null, retryAfter = null, cause } = {}) {
    super(message, { cause });
    this.name = new.target.name;
    this.status = status;
    this.errorType = errorType;
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}

/** No answer: refused, cut off, timed out, name unknown. */
export class Unreachable extends ClientError {}

/** An answer, but not docv2's: a proxy's page, a redirect, another service. */
export class UnexpectedAnswer extends ClientError {}

/** docv2 refuses the request; `status` and `errorType` say how. */
export class APIError extends ClientError {}

/** The task ended without an answer; `errorType` is `cancelled` where someone wanted it so. */
export class TaskFailed extends ClientError {
  constructor(task) {
    super(task.error ?? "the task failed without saying why", { errorType: task.error_type ?? null });
    this.task = task;
  }
}

/** The task goes on, the caller's time is up. `task` is what was last heard of it. */
export class WaitTimeout extends ClientError {
  constructor(taskId, timeout, task) {
    super(`task ${taskId} did not end within ${timeout} s`);
    this.taskId = taskId;
    this.task = task;
  }
}

/** Talks to one docv2 server. */
export class Client {
  #url;
  #headers;
  #patience;
  #fetch;

  /**
   * In Node, `url` and `apiKey` default to DOCV2_URL, else http://127.0.0.1:3000, and DOCV2_API_KEY.
   *
   * @param {object} [options]
   * @param {string} [options.url] where the server is; in a browser that page's own origin is a good choice
   * @param {string} [options.apiKey] not needed for `models` and `health`
   * @param {number} [options.patience] seconds after its first failure that a submission is tried again while the
   *   server cannot be reached or says `not now`
   * @param {typeof globalThis.fetch} [options.fetch] for a proxy or a certificate authority of one's own
   */
  constructor({ url, apiKey, patience = 60, fetch = globalThis.fetch } = {}) {
    const environment = globalThis.process?.env ?? {};
    const key = (apiKey ?? environment.DOCV2_API_KEY ?? "").trim();
    this.#url = new URL(url ?? environment.DOCV2_URL ?? "http://127.0.0.1:3000").href.replace(/\/$/, "");
    if (!/^https?:/.test(this.#url)) throw new TypeError("the server's URL must start with http:// or https://");
    this.#headers = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
    this.#patience = patience;
    this.#fetch = (...request) => fetch(...request);
  }

  /**
   * Upload a document with a question; resolves as soon as the server has it safe. A submission that may have been lost
   * is sent again under the same idempotency key, and is never a second task.
   *
   * @param {string | Blob} file a path (in Node; read as it is sent), or a File or Blob
   * @param {string} prompt
   * @param {object} [options] `filename` is needed for a Blob: its extension tells the type
   */
  async process(file, prompt, { filename, model, temperature, maxTokens, idempotencyKey, signal } = {}) {
    const blob = typeof file === "string" ? await openFile(file) : file;
    const name = filename ?? (typeof file === "string" ? file.split(/[/\\]/).pop() : file.name);
    if (!name) throw new TypeError("give the document's `filename`: its extension tells the type");
    const form = new FormData();
    const fields = { prompt, model, temperature, max_tokens: maxTokens };
    for (const [field, value] of Object.entries(fields)) if (value != null) form.append(field, String(value));
    form.append("file", blob, name);
    const headers = { "Idempotency-Key": idempotencyKey ?? randomKey() };
    let deadline; // counted from the first failure: an upload may take as long as it needs
    for (let tries = 0; ; tries++) {
      try {
        return await this.#send("POST", "/api/v2/process", { headers, body: form, timeout: null, signal });
      } catch (error) {
        const pause = backoff(tries, error);
        const failed = now();
        deadline ??= failed + this.#patience;
        if (!worthRetrying(error) || failed + pause > deadline) throw error;
        await sleep(pause, signal);
      }
    }
  }

  /** Where a task stands. `wait`: at most so many seconds, up to 60, for it to change. */
  async status(taskId, { wait = 0, signal } = {}) {
    return this.#poll(taskId, wait, wait + ANSWER_TIMEOUT, signal);
  }

  /**
   * Wait for the answer, through restarts of the server. Rejects with TaskFailed or, after `timeout` seconds,
   * WaitTimeout. `onChange` is called with the task each time it has changed.
   */
  async wait(taskId, { timeout = Infinity, onChange, signal } = {}) {
    const deadline = now() + timeout;
    let task = null;
    let tries = 0; // requests in a row that taught nothing: no answer, `not now`, or nothing new without having waited
    for (;;) {
      const asked = now();
      const left = Math.max(0, deadline - asked);
      const patience = Math.min(LONG_POLL, left);
      let pause;
      try {
        const before = task;
        task = await this.#poll(taskId, patience, Math.min(patience + ANSWER_TIMEOUT, left + 1), signal);
        const took = now() - asked;
        const changed = state(task) !== state(before);
        if (changed) onChange?.(task);
        if (task.status === "completed" && task.result) return task.result;
        if (task.status === "completed" || task.status === "failed") throw new TaskFailed(task);
        tries = !changed && took < patience / 2 ? tries + 1 : 0;
        pause = tries ? backoff(tries) : Math.max(0, POLL_INTERVAL - took);
      } catch (error) {
        if (!worthRetrying(error)) throw error;
        pause = backoff(tries++, error);
      }
      if (now() + pause >= deadline) throw new WaitTimeout(taskId, timeout, task);
      await sleep(pause, signal);
    }
  }

  /**
   * One's own tasks, newest first and without their results, `limit` at a time, at most 100; else 20. `status`: only
   * such; `pending` and `queued` both find all that wait. `cursor`: the `next_cursor` of the page before.
   */
  async tasks({ status, limit, cursor, signal } = {}) {
    const given = Object.entries({ status, limit, cursor }).filter(([, value]) => value != null);
    const query = String(new URLSearchParams(given));
    return this.#send("GET", `/api/v2/tasks${query && "?"}${query}`, { signal });
  }

  /** Stop a task, waiting or running. APIError with status 409 where it has ended. */
  async cancel(taskId, { signal } = {}) {
    return this.#send("DELETE", `/api/v2/tasks/${encodeURIComponent(taskId)}`, { signal });
  }

  /** The models that the caller may use; those open to everyone without a key. */
  async models({ signal } = {}) {
    return this.#send("GET", "/api/v2/models", { signal });
  }

  /** How the server is; no key needed. An unhealthy server answers too. */
  async health({ signal } = {}) {
    return this.#send("GET", "/api/v2/health", { also: 503, signal });
  }

  #poll(taskId, wait, timeout, signal) {
    const path = `/api/v2/status/${encodeURIComponent(taskId)}?wait=${wait.toFixed(3)}`;
    return this.#send("GET", path, { timeout, signal });
  }

  /** One request and its JSON. `also`: a status beside 200 whose body is an answer all the same. */
  async #send(method, path, { headers, body, also, timeout = ANSWER_TIMEOUT, signal }) {
    signal?.throwIfAborted();
    const limit = new AbortController();
    const abort = () => limit.abort(signal.reason);
    const timer = timeout === null ? undefined : setTimeout(() => limit.abort(), timeout * 1000);
    signal?.addEventListener("abort", abort, { once: true });
    let response, text;
    try {
      response = await this.#fetch(this.#url + path, {
        method,
        headers: { ...this.#headers, ...headers },
        body,
        credentials: "omit",
        // These two together: else fetch keeps the whole body in memory, to send it on where it is redirected.
        redirect: "error",
        window: null,
        signal: limit.signal,
      });
      text = await response.text();
    } catch (cause) {
      signal?.throwIfAborted();
      const why = cause.cause?.code ?? cause.cause?.message ?? cause.message;
      if (why === "unexpected redirect") throw new UnexpectedAnswer("the server redirects elsewhere", { cause });
      const told = limit.signal.aborted ? "took too long" : why;
      throw new Unreachable(`no answer from ${new URL(this.#url).origin}: ${told}`, { cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
    const { status } = response;
    const said = parse(text);
    if (status === 200 || status === also) {
      if (!said) throw new UnexpectedAnswer("the server's answer to this request is not docv2's", { status });
      return said;
    }
    throw new APIError(typeof said?.detail === "string" ? said.detail : `the server answered with HTTP ${status}`, {
      status,
      errorType: said?.error_type,
      requestId: said?.request_id ?? response.headers.get("X-Request-ID"),
      retryAfter: retryAfter(response.headers.get("Retry-After")),
    });
  }
}

/** A file of the disk as a Blob that is read piece by piece while it is sent. */
async function openFile(path) {
  const fs = await import("node:fs").catch((cause) => {
    throw new TypeError("a browser opens no path: hand over a File or Blob", { cause });
  });
  if (fs.openAsBlob) return fs.openAsBlob(path);
  // Node 18 takes anything that looks like a Blob.
  const { size } = await fs.promises.stat(path);
  const { Readable } = await import("node:stream");
  return { [Symbol.toStringTag]: "Blob", size, type: "", stream: () => Readable.toWeb(fs.createReadStream(path)) };
}

function parse(text) {
  try {
    const data = JSON.parse(text);
    return typeof data === "object" && !Array.isArray(data) ? data : null;
  } catch {
    return null;
  }
}

/** What makes a task look different to whoever waits for it. */
function state(task) {
  if (!task) return null;
  const { status, stage, progress, pages_done, position, waiting_reason } = task;
  return JSON.stringify([status, stage, progress, pages_done, position, waiting_reason]);
}

function worthRetrying(error) {
  return error instanceof Unreachable || (error instanceof APIError && TRY_AGAIN.has(error.status));
}

/** Seconds until the next try: as the server said, else doubling, with jitter lest all clients come at once. */
function backoff(tries, error) {
  return error?.retryAfter ?? Math.min(BACKOFF_CAP, POLL_INTERVAL * 2 ** tries) * (0.5 + Math.random() / 2);
}

/** Seconds, from either form of the header; null where there is none. */
function retryAfter(value) {
  if (!value) return null;
  const seconds = Number.isNaN(Number(value)) ? (Date.parse(value) - Date.now()) / 1000 : Number(value);
  return Number.isFinite(seconds) ? Math.max(0, seconds) : null;
}

/** Unlike any other; it is no secret. */
function randomKey() {
  return Array.from({ length: 3 }, () => Math.random().toString(36).slice(2)).join("");
}

function now() {
  return performance.now() / 1000;
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(end, seconds * 1000);
    signal?.addEventListener("abort", end, { once: true });
    function end() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      signal?.aborted ? reject(signal.reason) : resolve();
    }
  });
}
