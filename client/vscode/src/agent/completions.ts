/** The completion door of the agent, in its OpenAI dialect: prefix and suffix in, alternatives out. */
import { ask } from "./request.ts";
import type { Address } from "./folder.ts";
import type { Place } from "../ghost/cache.ts";
import type { Piece } from "../ghost/context.ts";

/** How sure a text must be to be shown. */
export const SHOWS = ["quiet", "balanced", "eager", "all"] as const;
export type Show = (typeof SHOWS)[number];

export interface Query {
  /** The document's URI: the agent looks at its names only. */
  readonly document: string;
  readonly prefix: string;
  readonly suffix: string;
  readonly alternatives: number;
  readonly show: Show;
  readonly context: readonly Piece[];
  readonly editor: string;
  readonly signal: AbortSignal;
}

export interface Suggested {
  readonly id: string;
  readonly model: string;
  readonly texts: readonly string[];
  /** The agent's own sentence for why there is nothing, where there is nothing. */
  readonly reason: string;
}

export type Happening = "view" | "select" | "dismiss" | "partial" | "typed";

export interface Health {
  readonly status: string;
  readonly reason: string;
  readonly model: string | undefined;
}

const MAX_TOKENS = 48;

/** The body of a request, as the agent reads it. Pure. */
export function bodyOf(query: Omit<Query, "editor" | "signal">): Record<string, unknown> {
  return {
    prompt: query.prefix,
    suffix: query.suffix,
    n: query.alternatives,
    max_tokens: MAX_TOKENS,
    temperature: 0,
    path: query.document.slice(0, 4096),
    show: query.show,
    context: query.context,
  };
}

export async function complete(address: Address, query: Query): Promise<Suggested> {
  const answer = (await ask(address, "POST", "/v1/completions", {
    body: bodyOf(query),
    editor: query.editor,
    signal: query.signal,
  })) as { id?: unknown; model?: unknown; choices?: unknown; sordino?: { reason?: unknown } };
  const choices = Array.isArray(answer.choices) ? (answer.choices as { text?: unknown }[]) : [];
  const texts = choices.map((choice) => choice.text).filter((text): text is string => typeof text === "string");
  return {
    id: String(answer.id),
    model: String(answer.model),
    texts: texts.filter((text) => text.trim() !== ""),
    reason: typeof answer.sordino?.reason === "string" ? answer.sordino.reason : "",
  };
}

/** The body of a request that reads a place ahead of the first key, writing nothing. Pure. */
export function aheadOf(place: Place): Record<string, unknown> {
  return { input_prefix: place.prefix, input_suffix: place.suffix, n_predict: 0, path: place.document.slice(0, 4096) };
}

/** Has the agent read a place, so that the first suggestion there need not wait. `editor` names who asks. */
export async function readAhead(address: Address, place: Place, editor: string): Promise<void> {
  await ask(address, "POST", "/infill", { body: aheadOf(place), editor });
}

export async function health(address: Address): Promise<Health> {
  const answer = (await ask(address, "POST", "/v1/health")) as Record<string, unknown>;
  return {
    status: String(answer["status"]),
    reason: typeof answer["reason"] === "string" ? answer["reason"] : "",
    model: typeof answer["model"] === "string" ? answer["model"] : undefined,
  };
}

/** Whether a file of this name is one that no suggestion may be made in. The agent's rules decide, for all editors. */
export async function isSecretName(address: Address, path: string): Promise<boolean> {
  const answer = (await ask(address, "POST", "/v1/secret-name", { body: { path } })) as { secret?: unknown };
  return answer.secret !== false;
}

interface Position {
  readonly line: number;
  readonly character: number;
}

/** A place at which the same change applies, and what it would become. */
export interface NextPlace {
  readonly range: { readonly start: Position; readonly end: Position };
  readonly text: string;
}

export interface EditQuery {
  readonly document: string;
  readonly before: string;
  readonly after: string;
  readonly show: Show;
  readonly editor: string;
  readonly signal: AbortSignal;
}

/** Where the change from `before` to `after` applies next, if anywhere. */
export async function nextEdit(address: Address, query: EditQuery): Promise<NextPlace | undefined> {
  const { document, before, after, show, editor, signal } = query;
  const body = { path: document.slice(0, 4096), before, after, show };
  const answer = (await ask(address, "POST", "/v1/next-edit", { body, editor, signal })) as { place?: NextPlace | null };
  return answer.place ?? undefined;
}

/** Tells the local statistics what became of a suggestion. */
export async function report(
  address: Address,
  type: Happening,
  facts: { id?: string; choice?: number; characters?: number },
): Promise<void> {
  const body = {
    type,
    completion_id: facts.id ?? "",
    choice_index: facts.choice ?? 0,
    characters: facts.characters ?? 0,
  };
  await ask(address, "POST", "/v1/events", { body });
}

export async function statistics(address: Address): Promise<Record<string, unknown>> {
  return (await ask(address, "GET", "/v1/statistics")) as Record<string, unknown>;
}

/** How a request of this editor ended. */
export interface Outcome {
  readonly reason: string;
  readonly explanation: string;
}

export async function lastOutcomes(address: Address, editor: string): Promise<readonly Outcome[]> {
  return (await ask(address, "GET", "/v1/why", { editor })) as readonly Outcome[];
}
