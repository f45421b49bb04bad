/**
 * Completions for one person, where no member is: starts `sordino serve` for the workspace's folders, and ends it with
 * the window. The endpoint lives as long as our end of its stdin is open, so it never outlives a window that crashed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Connection, Situation } from "./connection.ts";

export interface Wish {
  readonly on: boolean;
  readonly command: string;
  /** The larger base to serve, by its name on this machine; "" is the one that ships. */
  readonly base: string;
  readonly folders: readonly string[];
}

/** Whether an endpoint of one's own is to be started now. Pure. */
export function wanted(wish: Wish, situation: Situation, running: boolean): boolean {
  const { joined, completion, control, unsafe } = situation;
  return wish.on && wish.folders.length > 0 && !running && !joined && completion === undefined && control === undefined && unsafe === undefined;
}

/** What the program is started with. Pure. */
export function argumentsOf({ base, folders }: Wish, folder: string): string[] {
  const chosen = base === "" ? [] : ["--base", base];
  const repositories = folders.flatMap((one) => ["--repo", one]);
  return ["serve", "--while-stdin", "--json", "--folder", folder, ...chosen, ...repositories];
}

export class Alone {
  private child: ChildProcess | undefined;
  private failed = false;
  private readonly forget: () => void;

  /** `said` is called once, with the folders, when an endpoint of this window answers for the first time. */
  constructor(
    private readonly connection: Connection,
    private readonly wish: () => Wish,
    private readonly said: (folders: readonly string[]) => void,
  ) {
    this.forget = connection.onChange(() => this.look());
  }

  dispose(): void {
    this.forget();
    this.end();
  }

  /** Looks whether there is anything to start or to end: the folders or the settings changed. */
  look(): void {
    const wish = this.wish();
    if (!wish.on) {
      this.end();
    } else if (!this.failed && wanted(wish, this.connection.situation, this.child !== undefined)) {
      this.start(wish);
    }
  }

  private start(wish: Wish): void {
    const child = spawn(wish.command, argumentsOf(wish, this.connection.situation.folder), {
      stdio: ["pipe", "pipe", "ignore"],
    });
    this.child = child;
    let answered = false;
    child.stdin?.on("error", () => undefined);
    child.stdout?.on("data", (text: Buffer) => {
      if (!answered && text.toString("utf8").includes('"serving"')) {
        answered = true;
        this.said(wish.folders);
        void this.connection.refresh();
      }
    });
    // A program that is missing or refuses is not tried again and again: the status bar says what is absent.
    child.on("error", () => this.ended(child, true));
    child.on("exit", () => this.ended(child, !answered));
  }

  private ended(child: ChildProcess, failed: boolean): void {
    if (this.child === child) {
      this.child = undefined;
      this.failed = failed;
      void this.connection.refresh();
    }
  }

  private end(): void {
    const { child } = this;
    this.child = undefined;
    child?.stdin?.end();
    child?.kill();
  }
}
