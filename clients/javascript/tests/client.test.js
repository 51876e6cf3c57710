import assert from "node:assert/strict";
import { File } from "node:buffer";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";

import { APIError, Client, TaskFailed, UnexpectedAnswer, Unreachable, WaitTimeout } from "../docv2.js";
import { Scripted, accepted, completed, failed, hangUp, json, never, page, working } from "./scripted.js";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "docv2-client-"));
after(() => fs.rmSync(folder, { recursive: true }));

/** A client and its server, which answers as told. */
async function scripted(context, ...script) {
  const server = await new Scripted(...script).start();
  context.after(() => server.stop());
  return { server, client: new Client({ url: server.url, apiKey: "sk-test", patience: 5 }) };
}

test("a document is sent as a form with its name", async (context) => {
  const { server, client } = await scripted(context, accepted);
  const file = path.join(folder, "läse.txt");
  fs.writeFileSync(file, "rent: 1200");
  const options = { model: "m", temperature: 0, maxTokens: 50, idempotencyKey: "mine" };
  assert.equal((await client.process(file, "What is the rent?", options)).task_id, "t");
  const [{ body, headers }] = server.requests;
  assert.equal(headers.authorization, "Bearer sk-test");
  assert.equal(headers["idempotency-key"], "mine");
  const fields = { prompt: "What is the rent?", model: "m", temperature: "0", max_tokens: "50" };
  for (const [name, value] of Object.entries(fields)) assert.ok(body.includes(`name="${name}"\r\n\r\n${value}\r\n`));
  assert.match(body, /name="file"; filename="läse.txt"\r\n[^]*\r\n\r\nrent: 1200\r\n/);
});

test("a large file is never in memory", async (context) => {
  const { server, client } = await scripted(context, accepted);
  const file = path.join(folder, "large.pdf");
  fs.closeSync(fs.openSync(file, "w"));
  fs.truncateSync(file, 192 * 1024 ** 2);
  const before = process.memoryUsage().arrayBuffers;
  await client.process(file, "What is it?");
  assert.ok(server.requests[0].size > 192 * 1024 ** 2);
  assert.ok(process.memoryUsage().arrayBuffers - before < 128 * 1024 ** 2);
});

test("contents without a name are refused before anything is sent", async (context) => {
  const { server, client } = await scripted(context, accepted);
  await assert.rejects(client.process(new Blob(["text"]), "What is it?"), TypeError);
  await client.process(new Blob(["text"]), "What is it?", { filename: "a.txt" });
  await client.process(new File(["text"], "b.txt"), "What is it?");
  assert.match(server.requests[0].body, /filename="a.txt"/);
  assert.match(server.requests[1].body, /filename="b.txt"/);
});

test("a submission is repeated under one key, and is whole each time", async (context) => {
  const notNow = json({ detail: "Not now" }, 503, { "Retry-After": "0" });
  const { server, client } = await scripted(context, hangUp, notNow, page(502), accepted);
  const file = path.join(folder, "note.txt");
  fs.writeFileSync(file, "text");
  await client.process(file, "What is it?");
  assert.equal(server.requests.length, 4);
  assert.equal(new Set(server.requests.map((request) => request.headers["idempotency-key"])).size, 1);
  assert.equal(new Set(server.requests.map((request) => request.size)).size, 1);
});

test("a refusal for good is not repeated and says all", async (context) => {
  const detail = "File too large. Maximum size: 50.0MB";
  const refusal = json({ detail, error_type: "validation_error", request_id: "req_1" }, 413, { "Retry-After": "3" });
  const { server, client } = await scripted(context, refusal);
  await assert.rejects(client.process(new File(["text"], "a.txt"), "What is it?"), (error) => {
    assert.ok(error instanceof APIError);
    const { name, message, status, errorType, requestId, retryAfter } = error;
    assert.deepEqual(
      [name, message, status, errorType, requestId, retryAfter],
      ["APIError", detail, 413, "validation_error", "req_1", 3],
    );
    return true;
  });
  assert.equal(server.requests.length, 1);
});

test("patience ends", async (context) => {
  const { server, client } = await scripted(context, json({}, 503, { "Retry-After": "6" }));
  await assert.rejects(client.process(new File(["text"], "a.txt"), "What is it?"), APIError);
  assert.equal(server.requests.length, 1);
});

test("an upload that took longer than patience is sent again", async (context) => {
  const began = performance.now();
  let later = 0;
  context.mock.method(performance, "now", () => began + later);
  const slowly = (response) => {
    later += 70_000;
    hangUp(response);
  };
  const { server, client } = await scripted(context, slowly, accepted);
  await client.process(new File(["text"], "a.txt"), "What is it?");
  assert.equal(server.requests.length, 2);
});

test("waiting goes through a restart of the server", async (context) => {
  const seen = [];
  const { server, client } = await scripted(context, working(10), hangUp, page(502), working(10), completed("42"));
  const waiting = client.wait("t", { onChange: (task) => seen.push(task.progress) });
  while (server.requests.length < 2) await new Promise(setImmediate);
  await server.stop();
  await new Promise((later) => setTimeout(later, 50));
  await server.start();
  assert.equal((await waiting).content, "42");
  assert.deepEqual(seen, [10, 100]);
  assert.match(server.requests[0].url, /^\/api\/v2\/status\/t\?wait=30\.000$/);
});

test("waiting ends in time", async (context) => {
  const { client } = await scripted(context, working(10), never);
  await assert.rejects(client.wait("t", { timeout: 0.3 }), (error) => {
    assert.ok(error instanceof WaitTimeout);
    assert.equal(error.task.progress, 10);
    return true;
  });
});

test("a server that does not hold its answer back is not hurried", async (context) => {
  const { server, client } = await scripted(context, working(10));
  await assert.rejects(client.wait("t", { timeout: 2 }), WaitTimeout);
  assert.ok(server.requests.length < 9, `${server.requests.length} requests in 2 s`);
});

test("a failed task rejects with what it said", async (context) => {
  const { client } = await scripted(context, failed("The file is encrypted", "processing_error"));
  await assert.rejects(client.wait("t"), (error) => {
    assert.ok(error instanceof TaskFailed);
    assert.deepEqual([error.message, error.errorType], ["The file is encrypted", "processing_error"]);
    return true;
  });
});

test("an abort rejects with its reason, whatever is under way", async (context) => {
  const { server, client } = await scripted(context, never);
  for (const call of [
    (signal) => client.wait("t", { signal }),
    (signal) => client.process(new File(["text"], "a.txt"), "What is it?", { signal }),
    (signal) => client.models({ signal }),
  ]) {
    const reason = new Error("enough");
    const limit = new AbortController();
    const before = server.requests.length;
    const called = assert.rejects(call(limit.signal), reason);
    while (server.requests.length === before) await new Promise(setImmediate);
    limit.abort(reason);
    await called;
    await assert.rejects(call(limit.signal), reason);
    assert.equal(server.requests.length, before + 1, "nothing is sent under a signal that was given before");
  }
});

test("an abort ends a pause", async (context) => {
  const { server, client } = await scripted(context, json({}, 503, { "Retry-After": "600" }));
  const limit = new AbortController();
  const waiting = client.wait("t", { signal: limit.signal });
  while (!server.requests.length) await new Promise(setImmediate);
  setTimeout(() => limit.abort(), 20);
  await assert.rejects(waiting, { name: "AbortError" });
});

test("what is not docv2 is called so", async (context) => {
  const away = page(301, { Location: "/elsewhere" });
  const { server, client } = await scripted(context, page(), json([1]), away, page(500), page());
  for (let count = 0; count < 3; count++) await assert.rejects(client.models(), UnexpectedAnswer);
  await assert.rejects(client.models(), { name: "APIError", message: "the server answered with HTTP 500" });
  assert.equal(server.requests.length, 4, "no redirect was followed");
});

test("no answer at all", async (context) => {
  const { server, client } = await scripted(context, accepted);
  await server.stop();
  await assert.rejects(client.health(), (error) => {
    assert.ok(error instanceof Unreachable);
    assert.equal(error.message, `no answer from ${server.url}: ECONNREFUSED`);
    return true;
  });
  await server.start();
});

test("an unhealthy server still says how it is", async (context) => {
  const { client } = await scripted(context, json({ status: "unhealthy" }, 503));
  assert.equal((await client.health()).status, "unhealthy");
});

test("a task's id stays within its path", async (context) => {
  const { server, client } = await scripted(context, accepted);
  await client.cancel("../admin?x=1");
  assert.deepEqual([server.requests[0].method, server.requests[0].url], ["DELETE", "/api/v2/tasks/..%2Fadmin%3Fx%3D1"]);
});

test("an address that cannot be right", () => {
  assert.throws(() => new Client({ url: "docs.example.org" }), TypeError);
  assert.throws(() => new Client({ url: "ftp://docs.example.org" }), TypeError);
});

test("a page of tasks is asked for as wanted", async (context) => {
  const listed = { tasks: [{ task_id: "t", status: "queued" }], next_cursor: "c" };
  const { server, client } = await scripted(context, json(listed));
  assert.deepEqual(await client.tasks({ status: "queued", limit: 7, cursor: "a&b" }), listed);
  await client.tasks({ cursor: null });
  const asked = server.requests.map(({ url }) => url);
  assert.deepEqual(asked, ["/api/v2/tasks?status=queued&limit=7&cursor=a%26b", "/api/v2/tasks"]);
});
