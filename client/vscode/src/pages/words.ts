/** What the extension says about rounds and privacy, in one place. Pure. */
import type { Member, Offer } from "../agent/member.ts";
import { ifOthersCollude, phaseName, progressOf } from "../status/state.ts";

export const epsilon = (value: number): string => value.toFixed(2);

const count = (many: number, word: string): string => `${many} ${word}${many === 1 ? "" : "s"}`;

/** The one question before a round. Without a `button` there is nothing to agree to, and the text says why. */
export function consentText(member: Member, offer: Offer): { question: string; detail: string; button: string | undefined } {
  const { spent, budget, delta } = member.privacy;
  const fits = offer.cost.after <= budget;
  const others = Math.max(0, offer.ready - (member.participation.mode === "every_round" ? 1 : 0));
  const collude = offer.cost.if_others_collude_after ?? offer.cost.after;
  const shares =
    collude > offer.cost.after
      ? [`Noise comes in shares: these numbers hold as long as the federation keeps its honest floor. If all others collude with the coordinator, epsilon ${epsilon(collude)} is spent after the round.`]
      : [];
  const lines = [
    `Members: ${count(others, "other member")} ready, ${offer.connected} connected of ${offer.members}; the round begins with ${offer.required} or more.`,
    `Privacy cost: epsilon ${epsilon(offer.cost.run)} (at delta ${delta}). ` +
      `Spent before ${epsilon(spent)}, after ${epsilon(offer.cost.after)} of ${epsilon(budget)}; ${epsilon(Math.max(0, budget - offer.cost.after))} would be left.`,
    ...shares,
    fits ? `${count(offer.cost.runs_left, "such round")} fit into what is left now.` : "That is more than this member's budget allows, so the agent would refuse.",
    "What leaves this machine is one masked, noisy update that only the sum of all members' updates can be read from. Your code, your prompts and the loss stay here.",
  ];
  const asked = fits ? `Take part in round ${offer.round}?` : `Round ${offer.round} does not fit into the privacy budget`;
  return { question: asked, detail: lines.join("\n\n"), button: fits ? "Run" : undefined };
}

/** One line about where the round stands. */
export function progressText(member: Member): string {
  const { phase, round, step, steps, seconds_left: left } = member.activity;
  if (phase === "idle") {
    const { agreed } = member.participation;
    const offer = member.offer;
    const ready = offer === null ? "" : ` (${offer.ready} ready, ${offer.required} needed)`;
    return agreed === null ? "the round has ended" : `round ${agreed.round}: waiting for members${ready}`;
  }
  const share = phase === "train" && steps > 0 ? `, step ${step} of ${steps} (${Math.round(100 * progressOf(step, steps))} %)` : "";
  const time = phase === "train" && step > 0 && left > 0 ? `, about ${Math.ceil(left)} s left` : "";
  return `round ${round}: ${phaseName(phase)}${share}${time}`;
}

/** How round `round` ended, for a person. */
export function outcomeText(member: Member | undefined, round: number, withdrawn: boolean): { text: string; good: boolean } {
  if (member === undefined) {
    return { text: "The agent ended before the round did. Its privacy ledger knows what was charged.", good: false };
  }
  const spent = `Epsilon spent: ${epsilon(member.privacy.spent)} of ${epsilon(member.privacy.budget)}${ifOthersCollude(member.privacy)}.`;
  const last = member.last !== null && member.last.round >= round ? member.last : undefined;
  if (last?.outcome === "contributed") {
    const late = withdrawn ? "It was too late to withdraw: the update had been sent. " : "";
    return { text: `${late}Round ${last.round} is complete. This machine now has model ${member.release}. ${spent}`, good: !withdrawn };
  }
  const charge = last?.charged === true ? "The round's cost was charged; it is given back if this machine had not begun to upload." : "Nothing was charged for it.";
  if (withdrawn) {
    return { text: `You withdrew from round ${round}. ${charge} ${spent}`, good: true };
  }
  return { text: `Round ${round} ended without a new model${last?.message ? `: ${last.message}` : ""}. ${charge} ${spent}`, good: false };
}
