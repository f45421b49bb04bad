/** The three pages: privacy ledger, loss graph, statistics. Pure: the agent's answers in, markup out. */
import type { Ledger, Release } from "../agent/member.ts";
import { chart, escaped, figures, table } from "./html.ts";
import { epsilon } from "./words.ts";

export function ledgerBody(ledger: Ledger): string {
  const share = ledger.epsilon_budget > 0 ? Math.min(100, (100 * ledger.epsilon_spent) / ledger.epsilon_budget) : 0;
  const spoken = `${share.toFixed(0)} % of the privacy budget is spent`;
  const shared = ledger.scope === "federation";
  const alone = ledger.epsilon_if_others_collude ?? ledger.epsilon_spent;
  const allowed = ledger.epsilon_if_others_collude_budget ?? 0;
  const rounds = ledger.rounds.map((round) => [
    `${round.round} (run ${round.run.slice(0, 8)})`,
    epsilon(round.epsilon_after),
    ...(shared ? [epsilon(round.epsilon_if_others_collude_after ?? round.epsilon_after)] : []),
    String(round.noise_multiplier),
    round.sampling_rate.toPrecision(3),
    String(round.steps),
    round.committed ? "yes" : "no; given back if nothing left",
  ]);
  return (
    figures([
      ["Epsilon spent", epsilon(ledger.epsilon_spent)],
      ["Budget", epsilon(ledger.epsilon_budget)],
      ["Left", epsilon(ledger.epsilon_left)],
      ...(shared ? [["If all others collude", `${epsilon(alone)} of ${epsilon(allowed)}`] as const] : []),
      ["Delta", String(ledger.delta)],
    ]) +
    `<svg viewBox="0 0 720 18" role="img" aria-label="${spoken}"><rect class="grid" x="0.5" y="0.5" width="719" height="17" rx="3" fill="none"/>` +
    `<rect class="dot" x="0" y="0" width="${(7.2 * share).toFixed(1)}" height="18" rx="3"/></svg>` +
    `<p>The smaller epsilon is, the less anyone can learn of whether a file of yours took part. It counts everything that ever left ` +
    `this member (${escaped(ledger.member)}), ` +
    (shared
      ? `as long as the federation keeps its honest floor: noise comes in shares. If all others collude with the coordinator, it is ${epsilon(alone)}. `
      : `at any aggregator, even one that lies. `) +
    `A round is charged before it trains; the charge is given back only if the round ends before this machine begins to upload.</p>` +
    (rounds.length === 0
      ? `<p>No round has been charged yet.</p>`
      : table("Rounds, oldest first", ["Round", "Epsilon spent after it", ...(shared ? ["If all others collude"] : []), "Noise multiplier", "Sampling rate", "Steps", "Update sent"], rounds))
  );
}

export function lossesBody(releases: readonly Release[]): string {
  const measured = releases.filter((release) => release.heldout_loss !== null);
  const points = measured.map((release) => ({ x: release.release, y: release.heldout_loss as number }));
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) {
    return `<p>The coordinator has published no held-out loss yet. It measures each model on public code that no member holds, where such code is configured.</p>`;
  }
  const description =
    first === last
      ? `Held-out loss ${last.y.toFixed(4)} nats per token at model ${last.x}; no other model is measured yet.`
      : `Held-out loss from ${first.y.toFixed(4)} at model ${first.x} to ${last.y.toFixed(4)} at model ${last.x}, in nats per token.`;
  return (
    `<p>${escaped(description)} Lower is better. It is measured by the coordinator on public code, never on a member's.</p>` +
    chart(points, { x: "model (0 is the public base)", y: "nats per token", description }) +
    table(
      "Models of the federation",
      ["Model", "Round", "Members in the sum", "Held-out loss (nats per token)"],
      releases.map((release) => [
        String(release.release),
        release.round === null ? "base" : String(release.round),
        release.round === null ? "" : String(release.members.length),
        release.heldout_loss === null ? "not measured" : release.heldout_loss.toFixed(4),
      ]),
    )
  );
}

export function statisticsBody(summary: Record<string, unknown>): string {
  const number = (name: string): number => (typeof summary[name] === "number" ? summary[name] : 0);
  const share = (name: string): string =>
    typeof summary[name] === "number" ? `${(100 * summary[name]).toFixed(1)} %` : "nothing counted yet";
  const time = (name: string): string => (typeof summary[name] === "number" ? `${Math.round(summary[name])} ms` : "none yet");
  const explanations = (summary["explanations"] ?? {}) as Record<string, string>;
  const reasons = Object.entries((summary["reasons"] ?? {}) as Record<string, number>).sort((a, b) => b[1] - a[1]);
  const days = ((summary["days"] ?? []) as Record<string, unknown>[]).map((day) => [
    String(day["day"]),
    ...["shown", "accepted", "dismissed"].map((name) => String(day[name])),
    typeof day["acceptance"] === "number" ? `${(100 * day["acceptance"]).toFixed(1)} %` : "",
  ]);
  return (
    figures([
      ["Accepted of shown", share("acceptance")],
      ["Written by completion", share("completed_ratio")],
      ["Agent's time, median", time("latency_p50_ms")],
      ["95 of 100 within", time("latency_p95_ms")],
    ]) +
    `<p>Counted on this machine, kept with the agent for 60 days, sent to nobody. Model: ${escaped(String(summary["model"] ?? "none"))}.</p>` +
    table(
      "All days together",
      ["What", "Count"],
      [
        ["Shown", String(number("shown"))],
        ["Accepted", String(number("accepted"))],
        ["Dismissed", String(number("dismissed"))],
        ["Characters accepted", String(number("accepted_characters"))],
        ["Characters typed", String(number("typed_characters"))],
      ],
    ) +
    `<h2>How requests ended</h2>` +
    table("", ["Outcome", "Count"], reasons.map(([reason, many]) => [explanations[reason] ?? reason, String(many)])) +
    `<h2>By day</h2>` +
    table("", ["Day", "Shown", "Accepted", "Dismissed", "Accepted of shown"], days)
  );
}
