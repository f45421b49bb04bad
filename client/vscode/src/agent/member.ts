/** The control door of a member's agent: what it does, what privacy costs, and the member's own wish to take part. */
import { ask } from "./request.ts";
import type { Address } from "./folder.ts";

export interface Cost {
  readonly run: number;
  readonly after: number;
  readonly runs_left: number;
  /** Epsilon after it if all others collude with the coordinator; absent from an agent of before. */
  readonly if_others_collude_after?: number;
}

/** The round that the coordinator would like to run next, as it last said, and its cost as the agent computes it. */
export interface Offer {
  /** Names exactly this round under this plan: what a person agrees to. */
  readonly id: string;
  readonly round: number;
  readonly release: number;
  readonly connected: number;
  readonly ready: number;
  readonly required: number;
  readonly members: number;
  readonly cost: Cost;
}

export interface Activity {
  readonly phase: string;
  readonly round: number;
  readonly step: number;
  readonly steps: number;
  readonly seconds_left: number;
}

export interface Member {
  readonly member: string;
  readonly federation: string;
  readonly version: string;
  readonly revision: number;
  readonly link: { readonly state: string; readonly message: string; readonly hint: string };
  readonly activity: Activity;
  readonly release: number;
  readonly privacy: { readonly spent: number; readonly budget: number; readonly left: number; readonly delta: number; readonly if_others_collude?: number };
  readonly participation: {
    readonly mode: "every_round" | "when_asked";
    readonly paused: boolean;
    readonly agreed: { readonly round: number; readonly epsilon_after: number } | null;
  };
  readonly offer: Offer | null;
  readonly last: { readonly round: number; readonly outcome: string; readonly message: string; readonly charged: boolean } | null;
}

export interface Ledger {
  readonly member: string;
  readonly epsilon_spent: number;
  readonly epsilon_budget: number;
  readonly epsilon_left: number;
  readonly delta: number;
  /** Of the figures above: "federation" where noise comes in shares; then the two below are other ones. */
  readonly scope?: string;
  readonly epsilon_if_others_collude?: number;
  readonly epsilon_if_others_collude_budget?: number;
  readonly rounds: readonly {
    readonly run: string;
    readonly round: number;
    readonly sampling_rate: number;
    readonly noise_multiplier: number;
    readonly steps: number;
    readonly committed: boolean;
    readonly epsilon_after: number;
    readonly epsilon_if_others_collude_after?: number;
  }[];
}

export interface Release {
  readonly release: number;
  readonly round: number | null;
  readonly members: readonly string[];
  readonly heldout_loss: number | null;
}

// Longer than the agent lets a question for changes wait (see its `changes`).
const PATIENCE_MS = 400_000;

export const readMember = async (address: Address): Promise<Member> =>
  (await ask(address, "GET", "/v1/member")) as Member;

/** The member as soon as it is newer than `after`; the agent lets the question wait until then, or a few minutes. */
export const nextMember = async (address: Address, after: number, signal: AbortSignal): Promise<Member> =>
  (await ask(address, "GET", `/v1/member/changes?after=${after}`, { signal, timeoutMs: PATIENCE_MS })) as Member;

export const readLedger = async (address: Address): Promise<Ledger> =>
  (await ask(address, "GET", "/v1/member/ledger")) as Ledger;

export const readReleases = async (address: Address): Promise<readonly Release[]> =>
  (await ask(address, "GET", "/v1/member/releases")) as readonly Release[];

/** Agrees to take part in the round that was shown, as long as everything spent stays at or under what it says. */
export const agree = async (address: Address, offer: string, cost: Cost): Promise<Member> => {
  const body = { offer, epsilon_after: cost.after };
  const alone = cost.if_others_collude_after === undefined || cost.if_others_collude_after <= cost.after;
  const both = alone ? body : { ...body, epsilon_if_others_collude_after: cost.if_others_collude_after };
  return (await ask(address, "POST", "/v1/member/agree", { body: both })) as Member;
};

export const withdraw = async (address: Address): Promise<Member> =>
  (await ask(address, "POST", "/v1/member/withdraw", { body: {} })) as Member;

export const setPaused = async (address: Address, paused: boolean): Promise<Member> =>
  (await ask(address, "POST", paused ? "/v1/member/pause" : "/v1/member/resume", { body: {} })) as Member;
