import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Scripted, accepted, completed, failed, hangUp, json, never, working } from "./scripted.js";

test("nothing of Node's is needed where there are only the web's interfaces", async (context) => {
  const notNow = json({}, 503, { "Retry-After": "0" });
  const answered = [hangUp, notNow, accepted, working(10), hangUp, completed("1200")];
  const server = await new Scripted(...answered, failed("No."), json({}, 409), json({}), json({}), never).start();
  context.after(() => server.stop());
  const realm = fileURLToPath(new URL("web.js", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ["--experimental-vm-modules", "--no-warnings", realm], {
    env: { ...process.env, DOCV2_URL: server.url },
  });
  assert.equal(stdout, "done\n");
});
