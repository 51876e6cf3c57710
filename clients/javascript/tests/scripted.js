/** An HTTP server that answers as it is told, one behaviour a request, the last one for all that follow. */

import http from "node:http";

export class Scripted {
  requests = [];
  #server;
  #port = 0;

  constructor(...script) {
    this.script = script;
  }

  async start() {
    this.#server = http.createServer(async (request, response) => {
      const call = { method: request.method, url: request.url, headers: request.headers, size: 0, body: "" };
      this.requests.push(call);
      const behave = this.script.length > 1 ? this.script.shift() : this.script[0];
      request.on("error", () => {});
      for await (const piece of request) {
        call.size += piece.length;
        if (call.body.length < 2000) call.body += piece;
      }
      await behave(response, call);
    });
    this.#server.on("clientError", () => {});
    await new Promise((ready) => this.#server.listen(this.#port, "127.0.0.1", ready));
    this.#port = this.#server.address().port;
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  async stop() {
    const closed = new Promise((ended) => this.#server.close(ended));
    this.#server.closeAllConnections();
    await closed;
  }
}

export function json(body, status = 200, headers = {}) {
  const named = { "Content-Type": "application/json", ...headers };
  return (response) => response.writeHead(status, named).end(JSON.stringify(body));
}

export function page(status = 200, headers = {}) {
  return (response) => response.writeHead(status, { "Content-Type": "text/html", ...headers }).end("<!doctype html>");
}

export function hangUp(response) {
  response.destroy();
}

export function never() {}

export const accepted = json({ task_id: "t", status: "processing" });
export const working = (progress) => json({ task_id: "t", status: "processing", progress });
export const completed = (content) =>
  json({ task_id: "t", status: "completed", progress: 100, result: { content, model_used: "m", warnings: [] } });
export const failed = (error, error_type) => json({ task_id: "t", status: "failed", error, error_type });
