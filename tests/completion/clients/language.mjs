// vscode-languageclient needs a running VS Code; what it speaks are these two packages of its own: protocol and JSON-RPC.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const protocol = require("vscode-languageserver-protocol/node");
const { SERVER, PREFIX, SUFFIX } = process.env;
const [command, ...rest] = JSON.parse(SERVER);
const server = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
const connection = protocol.createProtocolConnection(
  new protocol.StreamMessageReader(server.stdout), new protocol.StreamMessageWriter(server.stdin));
connection.listen();
const lines = PREFIX.split("\n");
const where = { textDocument: { uri: "file:///area.py" }, position: { line: lines.length - 1, character: lines.at(-1).length } };
const { capabilities } = await connection.sendRequest(protocol.InitializeRequest.type, {
  processId: process.pid, rootUri: null, capabilities: { textDocument: { inlineCompletion: {} } }, workspaceFolders: null });
await connection.sendNotification(protocol.InitializedNotification.type, {});
await connection.sendNotification(protocol.DidOpenTextDocumentNotification.type, {
  textDocument: { uri: "file:///area.py", languageId: "python", version: 1, text: PREFIX + SUFFIX } });
const inline = await connection.sendRequest(protocol.InlineCompletionRequest.type, { ...where, context: { triggerKind: 1 } });
const plain = await connection.sendRequest(protocol.CompletionRequest.type, where);
const cancelling = new protocol.CancellationTokenSource();
// At another place: what is known of this one is answered before anybody could cancel.
const elsewhere = { ...where, position: { line: 0, character: 3 }, context: { triggerKind: 1 } };
const pending = connection.sendRequest(protocol.InlineCompletionRequest.type, elsewhere, cancelling.token);
cancelling.cancel();
const cancelled = await pending.then(() => "answered", (error) => error.code);
console.log(JSON.stringify({
  offers: Boolean(capabilities.inlineCompletionProvider), inline: inline.items.map((item) => item.insertText),
  plain: plain.items.map((item) => item.textEdit.newText), cancelled, wanted: protocol.LSPErrorCodes.RequestCancelled,
}));
await connection.sendRequest(protocol.ShutdownRequest.type);
await connection.sendNotification(protocol.ExitNotification.type);
connection.dispose();
