/**
 * The client as a browser has it: in a realm of its own with the web's interfaces and nothing of Node's, neither
 * `process` nor `Buffer` nor modules. web.test.js starts it, and a server at DOCV2_URL that answers what is expected here.
 */

import assert from "node:assert/strict";
import fs from "node:fs";
import vm from "node:vm";
import { File } from "node:buffer";

/** All that docv2.js may use beside the language itself; every browser has it. */
const web = { AbortController, FormData, URL, URLSearchParams, clearTimeout, fetch, performance, setTimeout };

const source = new URL("../docv2.js", import.meta.url);
const refuse = (specifier) => {
  throw new TypeError(`no module ${specifier} in a browser`);
};
const module = new vm.SourceTextModule(fs.readFileSync(source, "utf8"), {
  context: vm.createContext({ ...web }),
  importModuleDynamically: refuse,
});
await module.link(refuse);
await module.evaluate();
const { APIError, Client, TaskFailed } = module.namespace;

const client = new Client({ url: process.env.DOCV2_URL, apiKey: "sk-test", patience: 5 });
const file = new File(["rent: 1200"], "lease.txt");

const seen = [];
const { task_id } = await client.process(file, "What is the rent?");
const { content } = await client.wait(task_id, { onChange: ({ status }) => seen.push(status) });
assert.deepEqual([content, seen.join()], ["1200", "processing,completed"]);

await assert.rejects(client.wait(task_id), TaskFailed);
await assert.rejects(client.cancel(task_id), (error) => error instanceof APIError && error.status === 409);
await client.models();
await client.health();
const limit = new AbortController();
setTimeout(() => limit.abort(), 20);
await assert.rejects(client.wait(task_id, { signal: limit.signal }), { name: "AbortError" });
await assert.rejects(client.process("lease.txt", "What is the rent?"), { name: "TypeError", message: /File or Blob/ });
console.log("done");
