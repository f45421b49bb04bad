/**
 * The one object that knows whether the agent is there. It learns of changes without asking again and again: the
 * kernel tells when the agent's files change, and one request waits at the agent until the member's state does. So an
 * idle editor does nothing, and an agent that is killed is noticed at once, because the waiting request breaks.
 */
import { existsSync, type FSWatcher, watch } from "node:fs";
import { dirname, join } from "node:path";
import { health, type Health } from "./completions.ts";
import { type Address, findDoor, UnsafeTokenError } from "./folder.ts";
import { type Member, nextMember, readMember } from "./member.ts";
import { AbsentError, AbortedError } from "./request.ts";

const SETTLE_MS = 150;
const LOADING_MS = 1000;
const RETRY_MS = 2000;
const MOST_LOOKS = 60;

export interface Situation {
  readonly folder: string;
  /** Whether this folder belongs to a federation's member. */
  readonly joined: boolean;
  readonly completion: Address | undefined;
  readonly control: Address | undefined;
  readonly health: Health | undefined;
  readonly member: Member | undefined;
  /** What is wrong with the token file, where something is. */
  readonly unsafe: string | undefined;
}

export class Connection {
  private current: Situation;
  private readonly listeners = new Set<(situation: Situation) => void>();
  private watchers: FSWatcher[] = [];
  private waiting: AbortController | undefined;
  private timer: NodeJS.Timeout | undefined;
  private refreshing: Promise<void> | undefined;
  private again = false;
  private looks = 0;
  private ended = false;

  constructor(folder: string) {
    this.current = nothingAt(folder);
  }

  get situation(): Situation {
    return this.current;
  }

  onChange(listener: (situation: Situation) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Moves to another folder, or begins. */
  async open(folder: string): Promise<void> {
    this.waiting?.abort();
    this.current = nothingAt(folder);
    await this.refresh();
  }

  dispose(): void {
    this.ended = true;
    clearTimeout(this.timer);
    this.waiting?.abort();
    this.watchers.forEach((one) => one.close());
    this.listeners.clear();
  }

  /** Looks again; several calls at once become one look more. */
  async refresh(): Promise<void> {
    if (this.refreshing !== undefined) {
      this.again = true;
      return this.refreshing;
    }
    this.refreshing = (async () => {
      do {
        this.again = false;
        await this.look();
      } while (this.again && !this.ended);
    })();
    try {
      await this.refreshing;
    } finally {
      this.refreshing = undefined;
    }
  }

  /** Takes a member's state that an answer brought along. */
  learn(member: Member): void {
    this.become({ ...this.current, member });
  }

  private async look(): Promise<void> {
    clearTimeout(this.timer);
    const { folder } = this.current;
    this.watch(folder);
    let completion: Address | undefined;
    let control: Address | undefined;
    let unsafe: string | undefined;
    try {
      completion = await findDoor(folder, "completion");
      control = await findDoor(folder, "control");
    } catch (error) {
      if (!(error instanceof UnsafeTokenError)) {
        throw error;
      }
      unsafe = error.message;
    }
    const found = completion === undefined ? undefined : await present(health(completion));
    const member = control === undefined ? undefined : await present(readMember(control));
    if (this.ended || folder !== this.current.folder) {
      return;
    }
    this.become({
      folder,
      joined: existsSync(join(folder, "member.toml")),
      completion: found === undefined ? undefined : completion,
      control: member === undefined ? undefined : control,
      health: found,
      member,
      unsafe,
    });
    // After a round the new model is loaded within seconds; until then the old one answers, and says so.
    const swapping = member !== undefined && member.release > 0 && !serves(found?.model, member.release);
    // A door that was written down and does not answer yet: the model is being loaded, or its process is gone.
    const starting = (member !== undefined || completion !== undefined) && found === undefined;
    this.looks = swapping || starting || found?.status === "loading" ? this.looks + 1 : 0;
    if (this.looks > 0 && this.looks <= MOST_LOOKS) {
      this.timer = setTimeout(() => void this.refresh(), LOADING_MS);
    }
    if (control !== undefined && member !== undefined) {
      void this.follow(control, member);
    } else {
      this.waiting?.abort();
    }
  }

  /** Waits at the agent for changes, until it is gone or somebody looks anew. */
  private async follow(control: Address, from: Member): Promise<void> {
    this.waiting?.abort();
    const mine = (this.waiting = new AbortController());
    let known = from;
    while (!mine.signal.aborted && !this.ended) {
      try {
        const next = await nextMember(control, known.revision, mine.signal);
        const swapped = next.release !== known.release;
        known = next;
        this.learn(next);
        if (swapped) {
          this.timer = setTimeout(() => void this.refresh(), LOADING_MS);
        }
      } catch (error) {
        if (error instanceof AbortedError) {
          return;
        }
        if (!(error instanceof AbsentError)) {
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
        if (!mine.signal.aborted) {
          await this.refresh();
        }
        return;
      }
    }
  }

  private watch(folder: string): void {
    this.watchers.forEach((one) => one.close());
    const places = [join(folder, "completion"), join(folder, "control")].map(nearest);
    this.watchers = [...new Set(places)].map((place) => {
      const watcher = watch(place, { persistent: false }, (_, name) => {
        // What the agent writes while it works (statistics, memory) is no news here.
        if (name === null || /^(completion|control)(\.json)?$|^(sordino|share|\.local|token|member\.toml)$/.test(name)) {
          clearTimeout(this.timer);
          this.timer = setTimeout(() => void this.refresh(), SETTLE_MS);
        }
      });
      watcher.on("error", () => watcher.close());
      return watcher;
    });
  }

  private become(situation: Situation): void {
    this.current = situation;
    this.listeners.forEach((listener) => listener(situation));
  }
}

function nothingAt(folder: string): Situation {
  return {
    folder,
    joined: existsSync(join(folder, "member.toml")),
    completion: undefined,
    control: undefined,
    health: undefined,
    member: undefined,
    unsafe: undefined,
  };
}

/** Whether a model is that of a release: `sordino-3`, `smollm2-3`, with a person's own adapter or without. Pure. */
export function serves(model: string | undefined, release: number): boolean {
  return model?.replace(/-personal$/, "").endsWith(`-${release}`) === true;
}

/** The folder, or the nearest one above it that exists. */
function nearest(folder: string): string {
  let place = folder;
  while (!existsSync(place) && dirname(place) !== place) {
    place = dirname(place);
  }
  return place;
}

/** The answer, or undefined where nobody is there to give one. */
async function present<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch {
    return undefined;
  }
}
