// tabby-agent, which is behind Tabby's plugins for VS Code, IntelliJ and Vim: as a language server, configured by its
// own file in HOME, and as the library, which reports what became of a completion.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const rpc = require("vscode-jsonrpc/node");
const { TabbyAgent } = require("tabby-agent");
const { BASE, TOKEN, PREFIX, SUFFIX, HOME } = process.env;
const program = path.join(path.dirname(require.resolve("tabby-agent")), "cli.js");
const agent = spawn(process.execPath, [program, "--lsp", "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
const connection = rpc.createMessageConnection(
  new rpc.StreamMessageReader(agent.stdout), new rpc.StreamMessageWriter(agent.stdin));
connection.onRequest(() => null);
connection.listen();

const document = { uri: `file://${HOME}/area.py`, languageId: "python", version: 1, text: PREFIX + SUFFIX };
const lines = PREFIX.split("\n");
const position = { line: lines.length - 1, character: lines.at(-1).length };
await connection.sendRequest("initialize", {
  processId: process.pid, rootUri: null, capabilities: { textDocument: { completion: {} } },
});
await connection.sendNotification("initialized", {});
await connection.sendNotification("textDocument/didOpen", { textDocument: document });
const ask = () => connection.sendRequest("textDocument/completion", {
  textDocument: { uri: document.uri }, position, context: { triggerKind: 1 } });
let found = await ask();
for (let attempt = 0; attempt < 40 && !found.items.length; attempt++) {
  await new Promise((wait) => setTimeout(wait, 250)); // the agent asks for the server's health first
  found = await ask();
}
await connection.sendRequest("shutdown");
await connection.sendNotification("exit");
connection.dispose();
agent.kill();

const library = new TabbyAgent();
await library.initialize({ config: { server: { endpoint: BASE, token: TOKEN }, anonymousUsageTracking: { disable: true } } });
const given = await library.provideCompletions({
  filepath: "area.py", language: "python", text: document.text, position: PREFIX.length, manually: true });
for (const type of ["view", "select"]) {
  await library.postEvent({ type, completion_id: given.id, choice_index: given.choices[0].index });
}
console.log(JSON.stringify({
  server: found.items.map((item) => item.textEdit.newText), library: given.choices.map((choice) => choice.text),
  status: library.getStatus(),
}));
process.exit(0);
