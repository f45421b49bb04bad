/** Claims about what the extension says: the status bar, the question before a round, the pages. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { version } from "../package.json";
import type { Situation } from "../src/agent/connection.ts";
import { memberFolder, parseAddress } from "../src/agent/folder.ts";
import type { Member } from "../src/agent/member.ts";
import { ledgerBody, lossesBody, statisticsBody } from "../src/pages/content.ts";
import { chart, escaped, page } from "../src/pages/html.ts";
import { consentText, outcomeText, progressText } from "../src/pages/words.ts";
import { statusOf } from "../src/status/state.ts";

const member: Member = {
  member: "aurora",
  federation: "demo",
  version,
  revision: 1,
  link: { state: "connected", message: "", hint: "" },
  activity: { phase: "idle", round: 0, step: 0, steps: 0, seconds_left: 0 },
  release: 2,
  privacy: { spent: 2, budget: 8, left: 6, delta: 1e-6 },
  participation: { mode: "when_asked", paused: false, agreed: null },
  offer: {
    round: 3,
    release: 2,
    connected: 5,
    ready: 4,
    required: 5,
    members: 5,
    id: "0".repeat(64),
    cost: { run: 0.5, after: 2.5, runs_left: 9 },
  },
  last: null,
};
const address = { port: 1, socket: undefined, token: "t".repeat(43) };
const situation: Situation = {
  folder: "/home/ada/.local/share/sordino",
  joined: true,
  completion: address,
  control: address,
  health: { status: "ready", reason: "", model: "sordino-2" },
  member,
  unsafe: undefined,
};
const java = { id: "java", on: true };
const status = (change: Partial<Situation>, language = java) => statusOf({ ...situation, ...change }, language);
const as = (change: Partial<Member>): Partial<Situation> => ({ member: { ...member, ...change } });

describe("where noise comes in shares", () => {
  const shared = { ...member, privacy: { ...member.privacy, if_others_collude: 31.5 } };
  test("the status and the end of a round say both numbers, and one where they are the same", () => {
    assert.match(status({ member: shared }).explanation, /epsilon 2\.00 of 8\.00 \(31\.50 if all others collude with the coordinator\)/);
    assert.match(outcomeText(shared, 3, true).text, /31\.50 if all others collude/);
    assert.doesNotMatch(status({ member: { ...member, privacy: { ...member.privacy, if_others_collude: 2 } } }).explanation, /collude/);
  });
  test("the ledger's page has both, and what the owner allowed", () => {
    const round = { run: "r".repeat(16), round: 1, sampling_rate: 1, noise_multiplier: 2, steps: 1, committed: true, epsilon_after: 2.25 };
    const ledger = { member: "aurora", epsilon_spent: 2.25, epsilon_budget: 8, epsilon_left: 5.75, delta: 1e-6, rounds: [round] };
    const both = ledgerBody({
      ...ledger,
      scope: "federation",
      epsilon_if_others_collude: 31.5,
      epsilon_if_others_collude_budget: 40,
      rounds: [{ ...round, epsilon_if_others_collude_after: 30.25 }],
    });
    assert.match(both, /31\.50 of 40\.00/);
    assert.match(both, /30\.25/);
    assert.match(both, /as long as the federation keeps its honest floor/);
    assert.doesNotMatch(ledgerBody({ ...ledger, scope: "local" }), /collude/);
  });
});

describe("the status bar", () => {
  test("names the federation's model, or the base", () => {
    assert.match(status({}).text, /round 2$/);
    assert.match(status({ health: { status: "ready", reason: "", model: "sordino-base" } }).text, /base model$/);
  });
  test("says why a machine takes no part any more, and what to do, while suggestions go on", () => {
    const link = { state: "refused", message: "the coordinator refuses this member", hint: "ask the operator" };
    const shown = status(as({ link }));
    assert.equal(shown.kind, "ready");
    assert.equal(shown.level, "warning");
    assert.match(shown.explanation, /does not let this machine take part: the coordinator refuses this member\. What to do: ask the operator\./);
    assert.match(status(as({ link: { ...link, state: "waiting" } })).explanation, /is not connected: /);
  });
  test("says when nobody is there, and when a token is unsafe", () => {
    assert.equal(status({ completion: undefined, control: undefined, member: undefined, health: undefined }).kind, "absent");
    assert.equal(status({ unsafe: "readable" }).kind, "error");
  });
  test("says when the model is loaded, and when it was refused", () => {
    assert.equal(status({ health: undefined }).kind, "loading");
    assert.equal(status({ health: { status: "loading", reason: "", model: undefined } }).kind, "loading");
    assert.equal(status({ health: { status: "refused", reason: "self-test", model: undefined } }).kind, "error");
  });
  test("shows training with its share, and waiting with its round", () => {
    const training = status(as({ activity: { phase: "train", round: 3, step: 1, steps: 2, seconds_left: 9 } }));
    assert.match(training.text, /round 3, training 50 %/);
    const waiting = as({ participation: { ...member.participation, agreed: { round: 3, epsilon_after: 2.5 } } });
    assert.match(status(waiting).text, /waiting for round 3/);
  });
  test("says when a newer model is out, but not to a member that was in no round yet", () => {
    const offer = { ...member.offer!, release: 3 };
    assert.equal(status(as({ offer })).kind, "outdated");
    assert.equal(status(as({ release: -1, offer: { ...offer, release: 0 } })).kind, "ready");
    assert.equal(status(as({ version: "9.9.0" })).kind, "outdated");
  });
  test("says off for a language, and paused", () => {
    assert.equal(status({}, { id: "markdown", on: false }).kind, "off");
    assert.equal(status(as({ participation: { ...member.participation, paused: true } })).kind, "paused");
  });
});

describe("the question before a round", () => {
  test("shows members, cost, what is spent and what would be left", () => {
    const { question, detail, button } = consentText(member, member.offer!);
    assert.equal(question, "Take part in round 3?");
    assert.equal(button, "Run");
    for (const part of ["4 other members ready, 5 connected of 5", "epsilon 0.50", "before 2.00, after 2.50 of 8.00", "5.50 would be left", "9 such rounds"]) {
      assert.ok(detail.includes(part), part);
    }
  });
  test("says both numbers where noise comes in shares, and one where it does not", () => {
    const shared = { ...member.offer!, cost: { run: 0.5, after: 2.5, runs_left: 9, if_others_collude_after: 17.25 } };
    assert.match(consentText(member, shared).detail, /If all others collude with the coordinator, epsilon 17\.25/);
    assert.doesNotMatch(consentText(member, member.offer!).detail, /collude/);
  });
  test("a round that does not fit is not offered for agreement", () => {
    const dear = { ...member.offer!, cost: { run: 7, after: 9, runs_left: 0 } };
    assert.equal(consentText(member, dear).button, undefined);
  });
});

describe("how a round goes and ends", () => {
  test("progress names step and time, and who is waited for", () => {
    const training = { ...member, activity: { phase: "train", round: 3, step: 1, steps: 4, seconds_left: 8.2 } };
    assert.equal(progressText(training), "round 3: training, step 1 of 4 (25 %), about 9 s left");
    const waiting = { ...member, participation: { ...member.participation, agreed: { round: 3, epsilon_after: 2.5 } } };
    assert.equal(progressText(waiting), "round 3: waiting for members (4 ready, 5 needed)");
  });
  test("a completed round, an aborted one, a withdrawal before and after the training", () => {
    const ended = (outcome: string, charged: boolean): Member => ({ ...member, last: { round: 3, outcome, message: "", charged } });
    assert.match(outcomeText(ended("contributed", true), 3, false).text, /^Round 3 is complete/);
    assert.match(outcomeText(ended("aborted", true), 3, false).text, /without a new model\. The round's cost was charged; it is given back if/);
    assert.match(outcomeText(member, 3, true).text, /withdrew from round 3\. Nothing was charged/);
    assert.match(outcomeText(ended("contributed", true), 3, true).text, /too late/);
    assert.equal(outcomeText(undefined, 3, false).good, false);
  });
});

describe("the pages", () => {
  test("run no script and let in their own style only", () => {
    const html = page("A & B", "<p>x</p>", "abc");
    assert.ok(html.includes("default-src 'none'; style-src 'nonce-abc'"));
    assert.ok(html.includes("<h1>A &#38; B</h1>"));
    assert.ok(!/<script/.test(html));
  });
  test("escape what the agent says", () => {
    assert.equal(escaped(`<b a="c">`), "&#60;b a=&#34;c&#34;&#62;");
    const statistics = statisticsBody({ model: "<img>", reasons: { "<i>": 1 }, days: [] });
    assert.ok(!statistics.includes("<img>") && !statistics.includes("<i>"));
  });
  test("the ledger shows every round with its running total, sent or not", () => {
    const round = { run: "0123456789", round: 1, sampling_rate: 0.2, noise_multiplier: 1.5, steps: 2, committed: false, epsilon_after: 1.74 };
    const body = ledgerBody({ member: "aurora", epsilon_spent: 1.74, epsilon_budget: 8, epsilon_left: 6.26, delta: 1e-6, rounds: [round] });
    for (const part of ["1.74", "8.00", "6.26", "1 (run 01234567)", "no; given back if nothing left", "22 % of the privacy budget"]) {
      assert.ok(body.includes(part), part);
    }
  });
  test("the loss graph has a description, a point for each model, and says so when there is none", () => {
    assert.match(lossesBody([]), /no held-out loss yet/);
    const models = [0, 1].map((release) => ({ release, round: release || null, members: [], heldout_loss: 3 - release / 10 }));
    assert.match(lossesBody(models), /from 3\.0000 at model 0 to 2\.9000 at model 1/);
    assert.equal(chart([{ x: 0, y: 1 }, { x: 1, y: 1 }], { x: "", y: "", description: "d" }).match(/<circle/g)?.length, 2);
  });
});

describe("finding the agent", () => {
  test("looks where the agent puts itself, unless told", () => {
    assert.equal(memberFolder("", { XDG_DATA_HOME: "/data" }), "/data/sordino");
    assert.equal(memberFolder("/srv/member", {}), "/srv/member");
  });
  test("takes only what an agent writes", () => {
    const token = "t".repeat(43);
    assert.deepEqual(parseAddress('{"port": 8080, "pid": 1, "socket": "/s"}', token), { port: 8080, socket: "/s", token });
    for (const [text, given] of [["{", token], ["[]", token], ['{"port": 0}', token], ['{"port": "1"}', token], ['{"port": 1}', "short"], ['{"port": 1}', `${token}\n${token}`]]) {
      assert.equal(parseAddress(text as string, given as string), undefined);
    }
  });
});
