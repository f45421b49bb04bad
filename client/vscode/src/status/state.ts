/** What the status bar says. Pure: the situation and the editor's language in, words out. */
import { version } from "../../package.json";
import type { Situation } from "../agent/connection.ts";

export type Kind =
  | "absent"
  | "error"
  | "loading"
  | "training"
  | "waiting"
  | "outdated"
  | "off"
  | "paused"
  | "ready";

export interface Shown {
  readonly kind: Kind;
  readonly text: string;
  /** One sentence or two: the tooltip, and what a screen reader says. */
  readonly explanation: string;
  readonly level: "plain" | "warning" | "error";
}

export interface Language {
  readonly id: string;
  readonly on: boolean;
}

/** Phases of a round as people call them. */
const PHASES: Readonly<Record<string, string>> = {
  train: "training",
  share_keys: "exchanging keys",
  masked_input: "sending the masked update",
  survivors: "agreeing who is in",
  unmask: "opening the sum",
  result: "checking the new model",
};

export const phaseName = (phase: string): string => PHASES[phase] ?? phase;

/** Fraction of the local training that is done, 0 to 1. */
export const progressOf = (step: number, steps: number): number => (steps > 0 ? Math.min(1, step / steps) : 0);

export function statusOf(situation: Situation, language: Language | undefined): Shown {
  const { member, health } = situation;
  if (situation.unsafe !== undefined) {
    return error(situation.unsafe);
  }
  if (situation.completion === undefined && member === undefined) {
    return {
      kind: "absent",
      text: "$(circle-slash) Sordino: no agent",
      explanation: situation.joined
        ? "The Sordino agent does not run on this machine. Select to start it."
        : "No Sordino agent was found. Select to see how to set one up.",
      level: "warning",
    };
  }
  if (health === undefined) {
    return { kind: "loading", text: "$(loading~spin) Sordino: starting", explanation: "The agent runs; completions are being prepared.", level: "plain" };
  }
  if (health.status === "refused") {
    return error(`The model was refused: ${health.reason}`);
  }
  if (health.model === undefined) {
    return { kind: "loading", text: "$(loading~spin) Sordino: loading", explanation: `The model is being loaded (${health.status}).`, level: "plain" };
  }
  if (member !== undefined) {
    const busy = atWork(member);
    if (busy !== undefined) {
      return busy;
    }
    const old = outOfDate(member);
    if (old !== undefined) {
      return { kind: "outdated", text: "$(warning) Sordino: out of date", explanation: old, level: "warning" };
    }
  }
  if (language !== undefined && !language.on) {
    return { kind: "off", text: "$(circle-slash) Sordino: off", explanation: `Suggestions are switched off for ${language.id}. Select to choose languages.`, level: "plain" };
  }
  const model = modelName(health.model);
  if (member?.participation.paused) {
    return { kind: "paused", text: `$(debug-pause) Sordino: ${model}`, explanation: `Suggestions come from ${model}. Federated learning is paused: this machine takes part in no round.`, level: "plain" };
  }
  return {
    kind: "ready",
    text: `$(sparkle) Sordino: ${model}`,
    explanation: `Suggestions come from ${model}.${privacy(situation)}${linkOf(member)}`,
    level: member?.link.state === "refused" ? "warning" : "plain",
  };
}

/** `sordino-3` is the federation's model 3; 0 is the public base that it began from. */
export function modelName(model: string): string {
  const release = /^sordino-(\d+|base)$/.exec(model)?.[1];
  return release === undefined ? model : release === "0" || release === "base" ? "base model" : `round ${release}`;
}

/** Why the coordinator is not connected, and what a person can do. */
function linkOf(member: Situation["member"]): string {
  if (member === undefined || member.link.state === "connected") {
    return "";
  }
  const { state, message, hint } = member.link;
  const why = message ? `: ${message}` : "";
  const how = hint ? ` What to do: ${hint}.` : "";
  return state === "refused"
    ? ` The coordinator does not let this machine take part${why}.${how}`
    : ` The coordinator is not connected${why}.${how}`;
}

function atWork(member: NonNullable<Situation["member"]>): Shown | undefined {
  const { phase, round, step, steps } = member.activity;
  if (phase !== "idle") {
    const share = phase === "train" && steps > 0 ? ` ${Math.round(100 * progressOf(step, steps))} %` : "";
    return {
      kind: "training",
      text: `$(sync~spin) Sordino: round ${round}, ${phaseName(phase)}${share}`,
      explanation: `Round ${round} is under way: ${phaseName(phase)}${share}. Suggestions go on meanwhile.`,
      level: "plain",
    };
  }
  const { agreed } = member.participation;
  if (agreed !== null) {
    return {
      kind: "waiting",
      text: `$(watch) Sordino: waiting for round ${agreed.round}`,
      explanation: `You agreed to take part in round ${agreed.round}. It begins when enough members are ready.`,
      level: "plain",
    };
  }
  return undefined;
}

function outOfDate(member: NonNullable<Situation["member"]>): string | undefined {
  // A member that was in no round yet holds none (-1), and serves the base, which is model 0.
  if (member.offer !== null && member.offer.release > Math.max(0, member.release)) {
    return `The federation has model ${member.offer.release}; this machine has ${member.release}. It gets the newest with the next round it takes part in.`;
  }
  if (minor(member.version) !== minor(version)) {
    return `The agent is version ${member.version}, this extension ${version}. Update the older one.`;
  }
  return undefined;
}

const minor = (text: string): string => text.split(".").slice(0, 2).join(".");

function privacy(situation: Situation): string {
  const spent = situation.member?.privacy;
  return spent === undefined ? "" : ` Privacy spent: epsilon ${spent.spent.toFixed(2)} of ${spent.budget.toFixed(2)}${ifOthersCollude(spent)}.`;
}

/** The second number, where noise comes in shares and it is another one; else nothing. */
export function ifOthersCollude(spent: { readonly spent: number; readonly if_others_collude?: number }): string {
  const alone = spent.if_others_collude ?? spent.spent;
  return alone > spent.spent ? ` (${alone.toFixed(2)} if all others collude with the coordinator)` : "";
}

const error = (explanation: string): Shown => ({ kind: "error", text: "$(error) Sordino: error", explanation, level: "error" });
