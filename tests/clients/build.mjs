// Ask for a build with BinderHub's own client and print every message as a line of JSON.
//
// Reads {"endpoint", "spec", "options"} from standard input; options are those of BinderRepository.

import { text } from "node:stream/consumers";

// What the client looks for in a browser.
globalThis.window = globalThis;
globalThis.document = { cookie: "", hidden: false, addEventListener() {}, removeEventListener() {} };

const { BinderRepository } = await import("@jupyterhub/binderhub-client/client.js");
const { endpoint, spec, options } = JSON.parse(await text(process.stdin));
const repository = new BinderRepository(spec, new URL(endpoint), options);
for await (const message of repository.fetch()) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
  if (message.phase === "ready" || message.phase === "failed") {
    repository.close();
    break;
  }
}
