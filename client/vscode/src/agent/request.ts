/** One JSON request to the agent, over its Unix socket or loopback port. Nothing here can reach another machine. */
import { Agent, request } from "node:http";
import type { Address } from "./folder.ts";

const MAX_ANSWER_BYTES = 4 << 20;

/** Nobody answers at the address. */
export class AbsentError extends Error {}

/** The agent answered, and refused. `code` is its own word for why. */
export class RefusedError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The request was given up by this side. */
export class AbortedError extends Error {}

export interface Asking {
  readonly body?: unknown;
  readonly editor?: string;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

const kept = new Agent({ keepAlive: true, maxSockets: 8, maxFreeSockets: 2 });

/** The parsed answer. Throws AbsentError, RefusedError or AbortedError. Aborting hangs up, which withdraws the request. */
export async function ask(address: Address, method: "GET" | "POST", path: string, asking: Asking = {}): Promise<unknown> {
  try {
    return await askOnce(address, method, path, asking);
  } catch (error) {
    // A connection that was kept may have been closed by the agent while it was idle; a fresh one decides.
    if (error instanceof AbsentError && error.message === "reused") {
      return askOnce(address, method, path, asking);
    }
    throw error;
  }
}

function askOnce(address: Address, method: string, path: string, asking: Asking): Promise<unknown> {
  const { body, editor, signal, timeoutMs = 30_000 } = asking;
  if (signal?.aborted) {
    return Promise.reject(new AbortedError());
  }
  const text = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = request({
      agent: kept,
      ...(address.socket === undefined ? { host: "127.0.0.1", port: address.port } : { socketPath: address.socket }),
      method,
      path,
      headers: {
        Host: "localhost",
        Authorization: `Bearer ${address.token}`,
        ...(editor === undefined ? {} : { "X-Sordino-Editor": editor }),
        ...(text === undefined && method === "GET"
          ? {}
          : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text ?? "") }),
      },
      timeout: timeoutMs,
    });
    const abort = (): void => {
      sent.destroy();
      reject(new AbortedError());
    };
    signal?.addEventListener("abort", abort, { once: true });
    const settle = (): void => signal?.removeEventListener("abort", abort);
    sent.on("timeout", () => sent.destroy(new Error("timeout")));
    sent.on("error", () => {
      settle();
      reject(new AbsentError(sent.reusedSocket ? "reused" : "the agent does not answer"));
    });
    sent.on("response", (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on("data", (part: Buffer) => {
        size += part.length;
        if (size > MAX_ANSWER_BYTES) {
          sent.destroy();
          reject(new RefusedError(502, "size", "the agent's answer is too large"));
          return;
        }
        parts.push(part);
      });
      response.on("error", () => {
        settle();
        reject(new AbsentError("the agent hung up"));
      });
      response.on("end", () => {
        settle();
        const status = response.statusCode ?? 0;
        let document: unknown;
        try {
          document = size === 0 ? undefined : JSON.parse(Buffer.concat(parts).toString("utf8"));
        } catch {
          reject(new RefusedError(502, "format", "the agent's answer is not JSON"));
          return;
        }
        if (status >= 200 && status < 300) {
          resolve(document);
        } else {
          reject(refusal(status, document));
        }
      });
    });
    sent.end(text);
  });
}

function refusal(status: number, document: unknown): RefusedError {
  const error = (document as { error?: { message?: unknown; code?: unknown } } | undefined)?.error;
  return new RefusedError(
    status,
    typeof error?.code === "string" ? error.code : String(status),
    typeof error?.message === "string" ? error.message : `the agent answered with status ${status}`,
  );
}
