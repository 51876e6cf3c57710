/** Against a real server, where DOCV2_URL and DOCV2_API_KEY name one whose model answers everything but "never end". */

import assert from "node:assert/strict";
import { File } from "node:buffer";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";

import { APIError, Client, TaskFailed } from "../docv2.js";

const skip = process.env.DOCV2_URL ? false : "DOCV2_URL names no server";

test("a document is answered", { skip }, async (context) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "docv2-client-"));
  context.after(() => fs.rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'the "läse".txt');
  fs.writeFileSync(file, "The monthly rent is 1200 EUR.");
  const client = new Client();
  const task = await client.process(file, "What is the monthly rent?", { temperature: 0.1, maxTokens: 100 });
  assert.equal(task.config_applied.max_tokens, 100);
  const seen = [];
  const result = await client.wait(task.task_id, { timeout: 60, onChange: (task) => seen.push(task.status) });
  assert.ok(result.content.length > 0);
  assert.equal(result.file_info.size, 29);
  assert.equal(seen.at(-1), "completed");
  assert.equal((await client.status(task.task_id)).progress, 100);
});

test("a running task is cancelled", { skip }, async () => {
  const client = new Client();
  const { task_id } = await client.process(new File(["text"], "note.txt"), "Please never end.");
  const cancelled = (error) => error instanceof TaskFailed && error.errorType === "cancelled";
  const waiting = assert.rejects(client.wait(task_id, { timeout: 60 }), cancelled);
  assert.equal((await client.cancel(task_id)).error_type, "cancelled");
  await waiting;
  await assert.rejects(client.cancel(task_id), (error) => error instanceof APIError && error.status === 409);
});

test("one's own tasks, page by page", { skip }, async () => {
  const client = new Client();
  const sent = [];
  for (let count = 0; count < 3; count++) {
    const { task_id } = await client.process(new File(["text"], `${count}.txt`), "What is it?");
    await client.wait(task_id, { timeout: 60 });
    sent.unshift(task_id);
  }
  const first = await client.tasks({ status: "completed", limit: 2 });
  const second = await client.tasks({ status: "completed", limit: 2, cursor: first.next_cursor });
  const found = [...first.tasks, ...second.tasks].map(({ task_id }) => task_id);
  assert.deepEqual(found.slice(0, 3), sent);
});

test("models and health", { skip }, async () => {
  const client = new Client();
  const { models, default_model } = await client.models();
  assert.ok(models.some((model) => model.id === default_model && model.vision_capable));
  assert.equal((await client.health()).services.database, true);
});

test("refusals", { skip }, async () => {
  const client = new Client({ apiKey: "sk-of-nobody" });
  const file = new File(["text"], "note.txt");
  await assert.rejects(client.process(file, "What is it?"), { status: 401, errorType: "auth_error" });
  const known = new Client();
  await assert.rejects(known.process(new File(["text"], "note.exe"), "What is it?"), { status: 415 });
  await assert.rejects(known.status("no-such-task"), { status: 404, message: "Task not found" });
});
