/**
 * Where the agent is: it writes a small file when it listens, and a token that only its user can read.
 *
 *     <folder>/completion/completion.json   {"port", "pid", "socket"}     completions
 *     <folder>/control/control.json         the same shape                 training, privacy, progress
 *     <folder>/{completion,control}/token   0600
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

const MAX_BYTES = 4096;

export type Door = "completion" | "control";

/** How to reach one door of the agent. */
export interface Address {
  readonly port: number;
  readonly socket: string | undefined;
  readonly token: string;
}

/** The token file can be read by others, or belongs to someone else: it is not used. */
export class UnsafeTokenError extends Error {}

/** The member's folder: the setting, or where `sordino client` puts it by itself. */
export function memberFolder(setting: string, environment: NodeJS.ProcessEnv = process.env): string {
  if (setting !== "") {
    return setting.startsWith("~/") ? join(homedir(), setting.slice(2)) : setting;
  }
  return join(environment["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "sordino");
}

/** The address in the files of a door, or undefined where no agent wrote them. Throws UnsafeTokenError. */
export async function findDoor(folder: string, door: Door): Promise<Address | undefined> {
  const place = join(folder, door);
  const described = await readSmall(join(place, `${door}.json`), false);
  const token = await readSmall(join(place, "token"), true);
  if (described === undefined || token === undefined) {
    return undefined;
  }
  return parseAddress(described, token.trim());
}

/** Takes the two texts apart; anything but what an agent writes is no address. */
export function parseAddress(described: string, token: string): Address | undefined {
  let document: unknown;
  try {
    document = JSON.parse(described);
  } catch {
    return undefined;
  }
  if (typeof document !== "object" || document === null || !/^[\x21-\x7e]{32,200}$/.test(token)) {
    return undefined;
  }
  const { port, socket } = document as { port?: unknown; socket?: unknown };
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65535) {
    return undefined;
  }
  return { port, socket: typeof socket === "string" ? socket : undefined, token };
}

async function readSmall(path: string, secret: boolean): Promise<string | undefined> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
  } catch {
    return undefined;
  }
  try {
    // The file that was opened is the one that is judged: a name can be exchanged in between.
    const facts = await file.stat();
    if (secret && process.getuid !== undefined && (facts.uid !== process.getuid() || (facts.mode & 0o077) !== 0)) {
      throw new UnsafeTokenError(`${path} can be read by others; it is not used. Run: chmod 600 ${path}`);
    }
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_BYTES), 0, MAX_BYTES, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}
